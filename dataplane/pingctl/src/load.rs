//! `pingctl load`

mod args;
mod batches;
mod check;
mod history;
mod progress;
mod report;
mod run;
mod schedule;
mod stats;
mod stream;
mod unary;
mod uuids;

use std::{sync::Arc, thread, time::Instant};

use tokio::{
    task::{JoinError, JoinSet},
    time::{sleep_until, timeout},
};

pub(crate) use self::args::LoadArgs;
use self::{args::Mode, check::Check, report::Report, run::Run, stream::StreamSender};
use crate::{client::Server, exit::Exit, failure::Failure, settings::Settings};

/// Sends the load and prints the report.
pub(crate) async fn run(args: &LoadArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let config = args.config(settings)?;
    let server = Server::new(settings, config.timeout)?;
    let before = check::database_count(&server).await?;
    let run = Arc::new(Run::start(config)?);
    let pacer = Arc::clone(&run);
    // Ends by itself shortly after the end of the schedule.
    thread::spawn(move || pacer.schedule.pace());
    let mut senders = start_senders(&run, settings)?;
    tokio::select! {
        joined = finish(&run, &mut senders) => joined?,
        () = progress::show(&run) => {}
    }
    let ended = Instant::now();
    run.schedule.stop();
    senders.shutdown().await;
    let (acknowledged, unknown) = {
        let stats = run.stats.lock();
        (stats.acknowledged, stats.unknown())
    };
    let check = match run.config.check {
        true => Some(Check::wait(&server, before, acknowledged, unknown).await?),
        false => None,
    };
    if let Some(history) = &run.history {
        history.finish()?;
    }
    let stats = run.stats.lock();
    let report = Report::new(&run, &stats, ended, check);
    report.print(settings.format())?;
    Ok(report.exit())
}

/// Starts the senders of all connections.
fn start_senders(run: &Arc<Run>, settings: &Settings) -> Result<JoinSet<()>, Failure> {
    let mut senders = JoinSet::new();
    for connection in 0..run.config.connections {
        // A connection of its own.
        let client = settings.client(&run.config.address, run.config.timeout)?;
        match run.config.mode {
            Mode::Stream => {
                senders.spawn(StreamSender::new(Arc::clone(run), client).send());
            }
            Mode::Unary => {
                for first in (connection..).take(run.config.in_flight) {
                    senders.spawn(unary::send(Arc::clone(run), client.clone(), first));
                }
            }
        }
    }
    Ok(senders)
}

/// Waits until everything is sent and settled. Ends early on Ctrl-C, and when acknowledgements exceed the timeout.
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
            timeout(run.config.timeout, settled).await.unwrap_or(Ok(()))
        }
        () = sleep_until((run.schedule.end() + run.config.timeout).into()) => Ok(()),
    }
}
