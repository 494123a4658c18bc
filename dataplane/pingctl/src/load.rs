//! `pingctl load`

mod args;
mod batches;
mod check;
mod ids;
mod progress;
mod report;
mod schedule;
mod stream;
mod tally;
mod unary;

use std::{sync::Arc, thread, time::Instant};

use parking_lot::Mutex;
use ping_proto::ping_service_client::PingServiceClient;
use tokio::{
    task::{JoinError, JoinSet},
    time::{sleep_until, timeout},
};

pub(crate) use self::args::LoadArgs;
use self::{
    args::{Mode, Plan},
    check::Check,
    report::Report,
    schedule::Schedule,
    stream::StreamSender,
    tally::Tally,
};
use crate::{args::Global, client::Server, exit::Exit};

/// What all senders share.
struct Run {
    plan: Plan,
    schedule: Schedule,
    tally: Mutex<Tally>,
}

/// Makes the load and reports.
pub(crate) async fn run(args: &LoadArgs, global: &Global) -> anyhow::Result<Exit> {
    let plan = args.plan(global)?;
    let server = Server::new(global, plan.timeout);
    let before = check::strong(&server).await?;
    let run = Arc::new(Run { schedule: Schedule::start(&plan), tally: Mutex::new(Tally::new()?), plan });
    let pacer = Arc::clone(&run);
    // It ends by itself, within a tenth of a second after the schedule.
    thread::spawn(move || pacer.schedule.pace());
    let mut senders = senders(&run)?;
    tokio::select! {
        joined = finish(&run, &mut senders) => joined?,
        () = progress::show(&run) => {}
    }
    let ended = Instant::now();
    run.schedule.stop();
    senders.shutdown().await;
    let outcome = {
        let tally = run.tally.lock();
        (tally.acknowledged, tally.unknown())
    };
    let check = match run.plan.check {
        true => Some(Check::wait(&server, before, outcome, run.plan.timeout).await?),
        false => None,
    };
    let tally = run.tally.lock();
    let report = Report::new(&run, &tally, ended, check);
    report.print(global.format())?;
    Ok(report.exit())
}

/// Starts what sends, over all connections.
fn senders(run: &Arc<Run>) -> anyhow::Result<JoinSet<()>> {
    let mut senders = JoinSet::new();
    for connection in 0..run.plan.connections {
        let channel = run.plan.address.connect(run.plan.timeout);
        match run.plan.mode {
            Mode::Stream => {
                senders.spawn(StreamSender::new(Arc::clone(run), channel)?.send());
            }
            Mode::Unary => {
                let client = PingServiceClient::new(channel);
                for turn in (connection..).take(run.plan.in_flight) {
                    senders.spawn(unary::send(Arc::clone(run), client.clone(), turn));
                }
            }
        }
    }
    Ok(senders)
}

/// Waits until everything is sent and settled. Ctrl-C ends it early; and it ends when acknowledgements take too long.
async fn finish(run: &Run, senders: &mut JoinSet<()>) -> Result<(), JoinError> {
    let settled = async {
        while let Some(joined) = senders.join_next().await {
            joined?;
        }
        Ok(())
    };
    tokio::pin!(settled);
    tokio::select! {
        settled = &mut settled => settled,
        Ok(()) = tokio::signal::ctrl_c() => {
            run.schedule.stop();
            timeout(run.plan.timeout, settled).await.unwrap_or(Ok(()))
        }
        () = sleep_until((run.schedule.end() + run.plan.timeout).into()) => Ok(()),
    }
}
