//! `kubectl pingpipeline drill`: breaks parts of a running pipeline under load of its own, and says whether every
//! acknowledged ping was counted exactly once.

mod fault;
mod load;
mod server;
mod verdict;
mod watch;

use std::{
    io::{IsTerminal, stdin},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use ping_api::crd::PingPipeline;
use rand::Rng;

use self::{
    fault::Fault,
    load::Load,
    server::{Minute, Server},
    verdict::{Report, Round},
    watch::Watch,
};
use crate::{
    cluster::{Cluster, ConnectionArgs},
    output::Format,
};

/// How long pings flow before something breaks.
const BEFORE: Duration = Duration::from_secs(1);
/// How long a recount may take to agree with the cache, once all conditions hold.
const AGREES_WITHIN: Duration = Duration::from_secs(60);

#[derive(Args)]
#[command(
    after_help = "Its pings go through the API server to the pipeline's Service: it needs nothing but kubectl's rights to create
services/proxy, to list and delete pods, and for partition to patch the pipeline and its NetworkPolicies. They are dated in
minutes of 2000 to 2019 in which nothing was counted before, so that pings of others do not disturb the verdict; they stay
in the count. Exit code 0: exact. 1: not exact, or the fault was not felt. 2: it could not be carried out.

Examples:
  kubectl pingpipeline drill kill demo --times 20
  kubectl pingpipeline drill kill demo --target postgres --target kafka
  kubectl pingpipeline drill partition demo --from processor --target cache --for 30 --yes"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    fault: fault::Arguments,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// How often.
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    times: u16,
    /// Pings per second meanwhile, at most.
    #[arg(long, global = true, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rate: u16,
    /// Seconds that the pipeline may take to be Ready, Exact and Fresh again.
    #[arg(long, global = true, default_value_t = 600)]
    patience: u64,
    /// Do not ask whether this is meant.
    #[arg(long, global = true)]
    yes: bool,
}

pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let pipeline = cluster.find(Some(arguments.fault.name())).await?.pop().context("no such pipeline")?;
    let fault = Fault::of(&arguments.fault, &pipeline)?;
    ensure!(
        watch::is_well(&pipeline),
        "{} is not Ready, Exact and Fresh to begin with: see `kubectl pingpipeline status`",
        pipeline.name_any()
    );
    confirm(&arguments.common, &fault, &cluster, &pipeline)?;
    let mut report = Report::new(&fault);
    let interrupted =
        async { tokio::signal::ctrl_c().await.map_err(anyhow::Error::from).and_then(|()| bail!("interrupted")) };
    let done = tokio::select! {
        done = rounds(&arguments.common, &fault, &cluster, &pipeline, &mut report) => done,
        interrupted = interrupted => interrupted,
    };
    // However it ended.
    fault.undo(&cluster).await.context("the pipeline is still suspended: set its spec.suspend to false")?;
    match format {
        Format::Text => println!("{}", report.text()),
        Format::Json => println!("{}", report.json()),
    }
    done?;
    Ok(report.verdict().is_exact())
}

/// Breaks nothing that nobody has said yes to.
fn confirm(common: &Common, fault: &Fault, cluster: &Cluster, pipeline: &PingPipeline) -> anyhow::Result<()> {
    if common.yes {
        return Ok(());
    }
    let name = pipeline.name_any();
    let what = format!("{} times, in namespace {}: {fault}", common.times, cluster.namespace);
    ensure!(stdin().is_terminal(), "this would happen {what}. Add --yes to have it happen");
    eprintln!("This will happen {what}.\nPings are added to the count of {name}. Type its name to go on:");
    let mut typed = String::new();
    stdin().read_line(&mut typed)?;
    ensure!(typed.trim() == name, "nothing was done");
    Ok(())
}

async fn rounds(
    common: &Common,
    fault: &Fault,
    cluster: &Cluster,
    pipeline: &PingPipeline,
    report: &mut Report,
) -> anyhow::Result<()> {
    let server = Server::of(cluster, pipeline);
    let first = unused_minute(&server, common.times).await?;
    for number in 1..=common.times {
        let round = round(common, fault, cluster, pipeline, (&server, first.later(number))).await?;
        eprintln!("{number}/{}: {}", common.times, round.line());
        report.add(round);
    }
    Ok(())
}

/// The minute before `times` minutes in which nothing was counted yet.
async fn unused_minute(server: &Server, times: u16) -> anyhow::Result<Minute> {
    for _ in 0..10 {
        let first = Minute::of(rand::rng().random_range(Minute::YEARS));
        if server.count(first.later(1)..first.later(times + 1)).await? == 0 {
            return Ok(first);
        }
    }
    bail!("every minute between 2000 and 2019 that was tried holds pings")
}

/// One fault under load, until the pipeline is well again and everything is counted.
async fn round(
    common: &Common,
    fault: &Fault,
    cluster: &Cluster,
    pipeline: &PingPipeline,
    (server, minute): (&Server, Minute),
) -> anyhow::Result<Round> {
    let patience = Duration::from_secs(common.patience);
    let load = Load::start(server, minute, common.rate, patience);
    tokio::time::sleep(BEFORE).await;
    let mut watch = Watch::start(cluster.pipelines(), pipeline.name_any(), server.clone());
    let at = Timestamp::now();
    let happened = fault.happen(cluster).await?;
    watch.happened();
    let seen = watch.recovery(patience).await?;
    let pings = load.finish().await;
    let counted = server.count(minute..minute.later(1)).await?;
    Ok(Round { at, happened, pings, counted, same: agrees(server).await?, seen })
}

/// Whether the database, recounted, and the cache agree. Others may ping meanwhile, so one disagreement is none.
async fn agrees(server: &Server) -> anyhow::Result<bool> {
    let asked = tokio::time::Instant::now();
    loop {
        match server.verify().await {
            Ok(true) => return Ok(true),
            Ok(false) if asked.elapsed() > AGREES_WITHIN => return Ok(false),
            Err(error) if asked.elapsed() > AGREES_WITHIN => return Err(error),
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
