//! `kubectl pingpipeline drill`: causes failures in a running pipeline while sending events, and checks that every acknowledged
//! event is counted exactly once.

mod component;
mod delay;
mod disk;
mod exec;
mod fault;
mod fields;
mod load;
mod outcome;
mod partition;
mod pods;
mod server;
mod watch;

use std::{
    io::{self, IsTerminal, stdin},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::ResourceExt;
use ping_api::{crd::PingPipeline, names::Names, roles::deployments};
use rand::Rng;
use serde_json::json;

use self::{
    fault::Fault,
    load::Load,
    outcome::{Report, Round},
    server::{Minute, Server},
    watch::Watch,
};
use crate::{
    cluster::{Cluster, ConnectionArgs},
    output::Format,
};

/// Time until the cache must match a recount, once all conditions are true.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Args)]
#[command(
    after_help = "Events are sent to the pipeline's servers over ports that the API server forwards. This requires permission to get the Secrets in the
pipeline's status.access, to create pods/portforward, and to list and delete pods. `partition` also requires permission to patch the pipeline
and its NetworkPolicies; `delay` to patch its Deployments and to get pods/log; `disk` to create pods/exec, and with `--how full` to get
PersistentVolumeClaims. The events have timestamps in unused minutes between 2000 and 2019, so that events of other clients do not affect the
result. They stay in the count. Exit code 0: exact. 1: not exact, or the fault had no effect. 2: the drill could not be carried out.

Examples:
  kubectl pingpipeline drill kill demo --times 20
  kubectl pingpipeline drill kill demo --target postgres --target kafka
  kubectl pingpipeline drill partition demo --from processor --target cache --for 30 --yes
  kubectl pingpipeline drill delay demo --target postgres --milliseconds 200
  kubectl pingpipeline drill disk demo --how slow --for 60"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    options: DrillOptions,
}

#[derive(Subcommand)]
enum Action {
    #[command(flatten)]
    Fault(fault::Arguments),
    /// Remove what a drill left that was killed before it could: the hop of `delay`, the suspension of `partition`. Changes nothing else.
    Undo {
        /// Name of the pipeline.
        name: String,
    },
}

#[derive(Args)]
struct DrillOptions {
    /// Number of faults.
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    times: u16,
    /// Maximum number of events per second.
    #[arg(long, global = true, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rate: u16,
    /// Seconds until the pipeline must be Ready, Exact and Fresh again.
    #[arg(long, global = true, default_value_t = 600)]
    timeout: u64,
    /// Do not ask for confirmation.
    #[arg(long, global = true)]
    yes: bool,
}

pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let name = match &arguments.action {
        Action::Fault(fault) => fault.name(),
        Action::Undo { name } => name.as_str(),
    };
    let pipeline = cluster.find(Some(name)).await?.pop().context("no such pipeline")?;
    let fault = match &arguments.action {
        Action::Fault(fault) => Fault::of(fault, &pipeline)?,
        Action::Undo { .. } => return undo(&cluster, &pipeline, format).await,
    };
    ensure!(
        watch::is_healthy(&pipeline),
        "{} is not Ready, Exact and Fresh, so no drill was started; run `kubectl pingpipeline status`",
        pipeline.name_any()
    );
    confirm(&arguments.options, &fault, &cluster, &pipeline)?;
    let mut report = Report::new(&fault);
    let done = tokio::select! {
        done = rounds(&arguments.options, &fault, &cluster, &pipeline, &mut report) => done,
        interrupted = interrupted() => interrupted.map_err(anyhow::Error::from).and_then(|()| bail!("interrupted")),
    };
    // Whether the rounds succeeded or not.
    fault.undo(&cluster).await?;
    match format {
        Format::Text => println!("{}", report.text()),
        Format::Json => println!("{}", report.json()),
    }
    done?;
    Ok(report.outcome().is_exact())
}

/// Returns at Ctrl-C, and when the system or the terminal asks this program to end.
#[cfg(unix)]
async fn interrupted() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    }
}

/// Returns at Ctrl-C.
#[cfg(not(unix))]
async fn interrupted() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Removes what a drill left that was killed. The operator restores the NetworkPolicy of a partition when the pipeline is resumed; the script of
/// `disk` has ended with its input, and the other faults leave nothing.
async fn undo(cluster: &Cluster, pipeline: &PingPipeline, format: Format) -> anyhow::Result<bool> {
    let names = Names::of(pipeline);
    let unblocked = partition::unblock(cluster, &names.pipeline).await?;
    let suspended = unblocked.as_ref().unwrap_or(pipeline).spec.suspend;
    let resumed = unblocked.is_some() && !suspended;
    let servers = deployments(&pipeline.spec.server).into_iter().map(|(role, _)| role.component());
    let mut changed = Vec::new();
    for component in servers.chain(["processor"]) {
        let deployment = names.part(component);
        if delay::remove(cluster, &deployment).await? {
            changed.push(deployment);
        }
    }
    match format {
        Format::Json => println!("{}", json!({ "removedFrom": changed, "resumed": resumed })),
        Format::Text if changed.is_empty() && !resumed => println!("no drill has left anything in {}", names.pipeline),
        Format::Text => {
            if resumed {
                println!("resumed {}", names.pipeline);
            }
            if !changed.is_empty() {
                println!("removed the hop from {}", changed.join(", "));
            }
        }
    }
    if suspended {
        eprintln!("{} stays suspended, because someone else has set its spec.suspend", names.pipeline);
    }
    Ok(true)
}

/// Asks for confirmation, unless `--yes` is set.
fn confirm(options: &DrillOptions, fault: &Fault, cluster: &Cluster, pipeline: &PingPipeline) -> anyhow::Result<()> {
    if options.yes {
        return Ok(());
    }
    let name = pipeline.name_any();
    let plan = format!("{} times in namespace {}: {fault}", options.times, cluster.namespace);
    ensure!(stdin().is_terminal(), "this needs confirmation: add --yes to run {plan}");
    eprintln!(
        "This will run {plan}.\nIt adds events to the count of {name}. Type the name of the pipeline to continue:"
    );
    let mut typed = String::new();
    stdin().read_line(&mut typed)?;
    ensure!(typed.trim() == name, "not confirmed; nothing was changed");
    Ok(())
}

async fn rounds(
    options: &DrillOptions,
    fault: &Fault,
    cluster: &Cluster,
    pipeline: &PingPipeline,
    report: &mut Report,
) -> anyhow::Result<()> {
    let server = Server::connect(cluster, pipeline).await?;
    let first = unused_minute(&server, options.times).await?;
    for number in 1..=options.times {
        let round = round(options, fault, cluster, pipeline, (&server, first.plus(number))).await?;
        eprintln!("{number}/{}: {}", options.times, round.line());
        report.add(round);
    }
    Ok(())
}

/// The minute before `times` minutes without any events.
async fn unused_minute(server: &Server, times: u16) -> anyhow::Result<Minute> {
    for _ in 0..10 {
        let first = Minute::of(rand::rng().random_range(Minute::YEARS));
        if server.count(first.plus(1)..first.plus(times + 1)).await? == 0 {
            return Ok(first);
        }
    }
    bail!("found no unused minutes between 2000 and 2019")
}

/// One fault under load, until the pipeline is healthy again and all events are counted.
async fn round(
    options: &DrillOptions,
    fault: &Fault,
    cluster: &Cluster,
    pipeline: &PingPipeline,
    (server, minute): (&Server, Minute),
) -> anyhow::Result<Round> {
    let timeout = Duration::from_secs(options.timeout);
    let load = Load::start(server, minute, options.rate, timeout);
    load.wait_for_events(timeout).await?;
    fault.prepare(cluster, server).await?;
    let mut watch = Watch::start(cluster.pipelines(), pipeline.name_any(), server.clone());
    let started = Timestamp::now();
    let fault = fault.inject(cluster).await?;
    watch.fault_ended();
    let recovery = watch.recovery(server.total().await?, timeout).await?;
    let events = load.finish().await;
    let counted = server.count(minute..minute.plus(1)).await?;
    Ok(Round { started, fault, events, counted, cache_agrees: agrees(server).await?, recovery })
}

/// Whether the cache matches a recount of the database. Other clients may send events in the meantime, so this is retried.
async fn agrees(server: &Server) -> anyhow::Result<bool> {
    let started = tokio::time::Instant::now();
    loop {
        match server.verify().await {
            Ok(true) => return Ok(true),
            Ok(false) if started.elapsed() > AGREEMENT_TIMEOUT => return Ok(false),
            Err(error) if started.elapsed() > AGREEMENT_TIMEOUT => return Err(error),
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
