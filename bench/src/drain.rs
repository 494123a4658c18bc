//! How fast a processor works off a backlog: the topic is filled first, then a processor starts on a cache that stands at the
//! beginning. The middle nine tenths count.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::{
    machine,
    pipeline::{Pipeline, stream_load},
    report::Report,
};

/// The existing system's Flink job, as it ships and with its logging off (../shared/bench).
const PEER: f64 = 256_000.0;
const PEER_QUIET: f64 = 455_000.0;

pub(crate) async fn measure(report: &mut Report, backlog: i64) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::start(false).await?;
    while pipeline.stored().await? < backlog {
        stream_load(&pipeline, 500, 5).await?;
    }
    let stored = pipeline.stored().await? as f64;
    while pipeline.server.metric("ping_ingest_published_events_total").await? < stored {
        sleep(Duration::from_millis(100)).await;
    }
    stand_at_the_beginning(&pipeline.parts.redis.url()).await?;
    pipeline.start_processor().await?;
    let Some(processor) = &pipeline.processor else { anyhow::bail!("no processor") };
    let before = pipeline.cost();
    let counted = async || processor.metric("ping_count_records_total").await;
    let reach = async |share: f64| -> anyhow::Result<(Instant, f64)> {
        loop {
            let count = counted().await?;
            if count >= stored * share {
                return Ok((Instant::now(), count));
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let (from, first) = reach(0.05).await?;
    let (to, last) = reach(0.95).await?;
    pipeline.settle().await?;
    let rate = (last - first) / to.duration_since(from).as_secs_f64();
    report.compare("drain of a backlog", rate, "records/s", "the existing job as it ships", PEER);
    report.compare(
        "drain of a backlog, against no logging",
        rate,
        "records/s",
        "the existing job, logging off",
        PEER_QUIET,
    );
    report.add("drain: processor's most memory", machine::peak_mib(processor.pid()), "MiB");
    pipeline.note_cost(report, "drain", &before, stored);
    ensure!(processor.metric("ping_count_drifts_total").await? == 0.0, "an audit found a difference");
    Ok(())
}

/// A cache that has counted nothing of anything.
async fn stand_at_the_beginning(url: &str) -> anyhow::Result<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await?;
    for (key, field, value) in [("ping:positions", "generation", "bench"), ("ping:counters", "total", "0")] {
        let _: () = redis::cmd("HSET").arg(key).arg(field).arg(value).query_async(&mut connection).await?;
    }
    Ok(())
}
