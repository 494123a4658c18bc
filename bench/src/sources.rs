//! Measures the views per source at the highest rate at which they keep up, over as many sources as are asked for: with uniform keys, where
//! almost every event is of another source, and with Zipf keys, where some sources have most events.

mod load;
mod recovery;
mod steady;

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use crate::{
    keys::{self, Keys, nth},
    machine,
    pipeline::Pipeline,
    reads::read_on_thread,
    report::Report,
    storage::database_bytes,
    stream,
    views::{cache_bytes, catch_up, lag_ms, view_bytes},
};

/// The number of sources that issue 23 asks for.
const SOURCES: u64 = 10_000_000;
/// Memory that a source needs, in bytes, at most: what has to be in Postgres' and the kernel's caches.
const BYTES_PER_SOURCE: u64 = 1_024;
/// Seconds of load of `stream`, if it was not measured before.
const STREAM_SECONDS: u64 = 8;
/// The row of `stream` that rates are compared with.
const STREAM: &str = "stream, batches of 500";
/// Views must stay fresh at this share of the rate of [`STREAM`]. The highest rate at which they do leaves little processor time for reads.
const REQUIRED: f64 = 0.2;
/// Status reads per second, and how many runs of how many seconds: the median of their p99 counts.
const READS: u64 = 1_000;
const READ_RUNS: usize = 5;
const READ_SECONDS: u64 = 10;

/// `sources` of None: as many as issue 23 asks for, if the memory of this machine allows. `seconds` is the time of steady load.
pub(crate) async fn measure(report: &mut Report, sources: Option<u64>, seconds: u64) -> anyhow::Result<()> {
    let fit = machine::available_bytes()? / BYTES_PER_SOURCE;
    let sources = sources.unwrap_or(SOURCES.min(fit));
    ensure!(sources > 0, "there must be at least one source");
    report.add("sources: number of them", sources as f64, "sources");
    if report.value(STREAM).is_none() {
        stream::measure(report, STREAM_SECONDS).await?;
    }
    let limit = report.value(STREAM).context("stream was not measured")?;

    let mut pipeline = Pipeline::start(true).await?;
    pipeline.warm_up().await?;
    let empty = cache_bytes(&pipeline).await?;
    fill(report, &pipeline, sources).await?;
    let query = pipeline.start_query().await?;
    let idle = read_statuses(&query, sources).await?;
    report.add("sources: status p99 without load, median", idle.p99_ms, "ms");
    report.add("sources: status reads without load, failed", idle.failed as f64, "reads");
    // Reads fill the cache of statuses.
    let cached = cache_bytes(&pipeline).await? - empty;
    report.add("sources: cache after these reads", cached / sources as f64, "bytes per source");
    let mut lowest = f64::INFINITY;
    for (name, keys) in [("uniform", Keys::Uniform(sources)), ("Zipf", Keys::Zipf(sources))] {
        let name = format!("sources, {name}");
        let rate = steady::measure(report, &pipeline, &name, keys, limit, seconds).await?;
        for (at, rate) in [("", rate), (" at a fifth of stream", rate.min(limit * REQUIRED))] {
            let reads = read_statuses_under_load(&pipeline, &query, keys, rate, sources).await?;
            report.compare(format!("{name}: status p99{at}, median"), reads.p99_ms, "ms", "without load", idle.p99_ms);
            report.add(format!("{name}: status reads{at}, failed"), reads.failed as f64, "reads");
        }
        let lag = lag_ms(&pipeline.client().await?, keys::name(0)).await?;
        report.add(format!("{name}: views' lag after these reads"), lag as f64, "ms");
        catch_up(&pipeline).await?;
        lowest = lowest.min(rate);
    }
    recovery::after_kill(report, &mut pipeline, Keys::Uniform(sources), lowest / 2.0).await?;
    recovery::rebuild(report, &mut pipeline).await?;
    pipeline.settle().await?;
    Ok(())
}

/// Records one event of each source, and reports what a source takes.
async fn fill(report: &mut Report, pipeline: &Pipeline, sources: u64) -> anyhow::Result<()> {
    let empty = (view_bytes(pipeline).await?, database_bytes(pipeline).await?);
    let started = Instant::now();
    load::once_each(&pipeline.address, sources).await?;
    catch_up(pipeline).await?;
    let number = sources as f64;
    report.add("sources: recording each once, including views", number / started.elapsed().as_secs_f64(), "events/s");
    let processor = pipeline.processor.as_ref().context("no processor")?;
    let memory = machine::peak_mib(processor.pid())?;
    report.add("sources: processor peak memory", memory, "MiB");
    report.add("sources: processor", memory * 1024.0 * 1024.0 / number, "bytes per source");
    report.add("sources: Postgres, all views", (view_bytes(pipeline).await? - empty.0) / number, "bytes per source");
    let all = database_bytes(pipeline).await? - empty.1;
    report.add("sources: Postgres, with the event", all / number, "bytes per source");
    Ok(())
}

/// What status reads found.
struct StatusReads {
    /// The median of several runs.
    p99_ms: f64,
    failed: u64,
}

async fn read_statuses(query: &str, sources: u64) -> anyhow::Result<StatusReads> {
    let (mut all, mut failed) = (Vec::new(), 0);
    for _ in 0..READ_RUNS {
        let source = move |turn| keys::name(nth(turn, sources));
        let reads = read_on_thread(query.to_owned(), READS, READ_SECONDS, source).await?;
        all.push(reads.p99_ms());
        failed += reads.failed();
    }
    all.sort_by(f64::total_cmp);
    Ok(StatusReads { p99_ms: all[READ_RUNS / 2], failed })
}

async fn read_statuses_under_load(
    pipeline: &Pipeline,
    query: &str,
    keys: Keys,
    rate: f64,
    sources: u64,
) -> anyhow::Result<StatusReads> {
    let seconds = READ_SECONDS * READ_RUNS as u64 + steady::RAMP_SECONDS;
    let load = load::start(&pipeline.address, keys, rate, seconds).await?;
    sleep(Duration::from_secs(steady::RAMP_SECONDS)).await;
    let reads = read_statuses(query, sources).await?;
    load.finish().await?;
    Ok(reads)
}
