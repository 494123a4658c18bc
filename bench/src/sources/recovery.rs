//! How long the views take to be fresh again: after the processor was killed, and after they were lost.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use super::{load, steady};
use crate::{
    keys::{Keys, name},
    machine,
    pipeline::Pipeline,
    report::Report,
    views::{catch_up, execute, lag_ms, query_number},
};

/// How long a restarted processor may take.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Postgres reports a connection's statistics after at most ten seconds.
const STATISTICS_DELAY: Duration = Duration::from_secs(11);

/// Kills the processor and starts another one while `rate` events per second arrive.
pub(super) async fn after_kill(
    report: &mut Report,
    pipeline: &mut Pipeline,
    keys: Keys,
    rate: f64,
) -> anyhow::Result<()> {
    let scanned = scanned_rows(pipeline).await?;
    let load = load::start(&pipeline.address, keys, rate, TIMEOUT.as_secs()).await?;
    sleep(Duration::from_secs(steady::RAMP_SECONDS)).await;
    let client = pipeline.client().await?;
    let killed = Instant::now();
    pipeline.kill_processor().await?;
    pipeline.start_processor().await?;
    loop {
        let lag = lag_ms(&client, name(0)).await?;
        // The watermark is that of the killed processor until it is later than the kill.
        if lag <= steady::MAX_LAG_MS && Duration::from_millis(lag) < killed.elapsed() {
            break;
        }
        ensure!(killed.elapsed() < TIMEOUT, "the views are not fresh {TIMEOUT:?} after the processor was killed");
        sleep(Duration::from_millis(50)).await;
    }
    report.add("sources: from kill -9 of the processor to fresh views", killed.elapsed().as_secs_f64(), "s");
    report.add("sources: events meanwhile", rate, "events/s");
    drop(load);
    catch_up(pipeline).await?;
    let scanned = scanned_rows(pipeline).await? - scanned;
    report.add("sources: rows of events scanned by the restart", scanned, "rows");
    Ok(())
}

/// Deletes the views, and starts a processor, which builds them from the events.
pub(super) async fn rebuild(report: &mut Report, pipeline: &mut Pipeline) -> anyhow::Result<()> {
    let scanned = scanned_rows(pipeline).await?;
    pipeline.kill_processor().await?;
    execute(pipeline, "DELETE FROM source_views; DELETE FROM source_positions").await?;
    let started = Instant::now();
    pipeline.start_processor().await?;
    catch_up(pipeline).await?;
    report.add("sources: rebuild", started.elapsed().as_secs_f64(), "s");
    report.add("sources: events in the rebuild", pipeline.stored().await? as f64, "events");
    let processor = pipeline.processor.as_ref().context("no processor")?;
    report.add("sources: processor peak memory in the rebuild", machine::peak_mib(processor.pid())?, "MiB");
    let scanned = scanned_rows(pipeline).await? - scanned;
    report.add("sources: rows of events scanned by the rebuild", scanned, "rows");
    Ok(())
}

/// How many rows of `events` sequential scans have read.
async fn scanned_rows(pipeline: &Pipeline) -> anyhow::Result<f64> {
    sleep(STATISTICS_DELAY).await;
    query_number(pipeline, "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'events'").await
}
