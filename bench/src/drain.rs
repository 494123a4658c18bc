//! Measures how fast a processor drains a backlog: fills the topic, then starts a processor with an empty cache. The first and the
//! last 5 % of the backlog are not measured.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::{
    machine,
    pipeline::{Pipeline, stream_load},
    report::Report,
};

/// The existing system's Flink job as shipped, and with logging disabled (../shared/bench).
const BASELINE: f64 = 256_000.0;
const BASELINE_WITHOUT_LOGGING: f64 = 455_000.0;

pub(crate) async fn measure(report: &mut Report, backlog: i64) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::start(false).await?;
    while pipeline.stored().await? < backlog {
        stream_load(&pipeline, 500, 5).await?;
    }
    let stored = pipeline.stored().await? as f64;
    while pipeline.server.metric("ping_ingest_published_events_total").await? < stored {
        sleep(Duration::from_millis(100)).await;
    }
    reset_cache(&pipeline.parts.redis.url()).await?;
    pipeline.start_processor().await?;
    let Some(processor) = &pipeline.processor else { anyhow::bail!("no processor") };
    let before = pipeline.cpu_usage();
    let counted = async || processor.metric("ping_count_records_total").await;
    let wait_for = async |share: f64| -> anyhow::Result<(Instant, f64)> {
        loop {
            let count = counted().await?;
            if count >= stored * share {
                return Ok((Instant::now(), count));
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let (from, first) = wait_for(0.05).await?;
    let (to, last) = wait_for(0.95).await?;
    pipeline.settle().await?;
    let rate = (last - first) / to.duration_since(from).as_secs_f64();
    report.compare("drain of a backlog", rate, "records/s", "the existing job as it ships", BASELINE);
    report.compare(
        "drain of a backlog, against no logging",
        rate,
        "records/s",
        "the existing job, logging off",
        BASELINE_WITHOUT_LOGGING,
    );
    report.add("drain: processor peak memory", machine::peak_mib(processor.pid())?, "MiB");
    pipeline.report_cost(report, "drain", &before, stored);
    ensure!(
        processor.metric("ping_count_drifts_total").await? == 0.0,
        "an audit found a difference between the cache and the log"
    );
    Ok(())
}

/// Resets the cache to the state in which nothing has been counted.
async fn reset_cache(url: &str) -> anyhow::Result<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await?;
    for (key, field, value) in [("ping:positions", "generation", "bench"), ("ping:counters", "total", "0")] {
        let _: () = redis::cmd("HSET").arg(key).arg(field).arg(value).query_async(&mut connection).await?;
    }
    Ok(())
}
