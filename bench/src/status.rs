//! Measures status reads of a million sources at a fixed rate during ingestion at a fixed rate, and the space that a source takes
//! in the cache and in Postgres.

use std::time::Duration;

use futures::{StreamExt, stream};
use ping_client::Client;
use ping_proto::{RecordBatchRequest, RecordRequest};
use tokio::{
    time::{Instant, MissedTickBehavior, interval},
    try_join,
};
use tonic::transport::Channel;

use crate::{
    keys::{is_negative, name, nth},
    machine,
    pipeline::Pipeline,
    reads::{Reads, read_on_thread},
    report::Report,
    views::{cache_bytes, catch_up, max_lag_records, view_bytes},
};

const SOURCES: u64 = 1_000_000;
/// One in this many sources has the number of successes that a positive status requires. All others have one, or a failure.
const POSITIVE: u64 = 10_000;
const SUCCESSES: u64 = 1_000;
/// The required ingestion rate in events per second (issue 6).
const EVENTS: u64 = 20_000;
/// The required reads per second (issue 6).
const READS: u64 = 5_000;
/// Events per batch: for the initial backlog, and under load.
const BACKLOG_BATCH: usize = 1_000;
const BATCH: u64 = 100;
/// Seconds of load before the measurement.
const WARM_UP: u64 = 30;

pub(crate) async fn measure(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::start(true).await?;
    pipeline.warm_up().await?;
    let empty = (cache_bytes(&pipeline).await?, view_bytes(&pipeline).await?);
    let started = Instant::now();
    let recorded = fill(&pipeline).await?;
    catch_up(&pipeline).await?;
    let rate = recorded as f64 / started.elapsed().as_secs_f64();
    report.add("status: recording a million sources, including views", rate, "events/s");
    let sources = SOURCES as f64;
    let per_source = (cache_bytes(&pipeline).await? - empty.0) / sources;
    report.add("status: cache", per_source, "bytes per source");
    report.add("status: cache, extrapolated to 10 M sources", per_source * 1e7 / 1024.0_f64.powi(3), "GiB");
    let per_source = (view_bytes(&pipeline).await? - empty.1) / sources;
    report.add("status: Postgres, all views", per_source, "bytes per source");
    report.add("status: Postgres, extrapolated to 10 M sources", per_source * 1e7 / 1024.0_f64.powi(3), "GiB");

    let query = pipeline.start_query().await?;
    let shares = pipeline.apply_cpu_shares()?;
    report.add("status: programs with CPU shares", shares.len() as f64, "programs");
    let idle = read_on_thread(query.clone(), READS, WARM_UP, source_for).await?;
    idle.report(report, "status: reads without load");
    // Unmeasured, because Kafka's JVM compiles its code for this load during the first half minute.
    under_load(&pipeline, &query, WARM_UP).await?;
    catch_up(&pipeline).await?;
    let before = pipeline.cpu_usage();
    let (events, reads, lag) = under_load(&pipeline, &query, seconds).await?;
    reads.report(report, "status: reads");
    report.compare("status: reads: p99 under load", reads.p99_ms(), "ms", "p99 without load", idle.p99_ms());
    report.add("status: ingestion during reads", events, "events/s acknowledged");
    report.add("status: views, maximum lag", lag, "records");
    let load_ended = Instant::now();
    catch_up(&pipeline).await?;
    report.add("status: views, time to catch up", load_ended.elapsed().as_secs_f64(), "s");
    pipeline.report_cost(report, "status", &before, events * seconds as f64);
    report.add("status: server peak memory", machine::peak_mib(pipeline.server.pid())?, "MiB");
    if let Some(processor) = &pipeline.processor {
        report.add("status: processor peak memory", machine::peak_mib(processor.pid())?, "MiB");
    }
    pipeline.settle().await?;
    Ok(())
}

/// Writes and reads at the fixed rates for `seconds`; returns the events acknowledged per second, the reads and the maximum lag.
async fn under_load(pipeline: &Pipeline, query: &str, seconds: u64) -> anyhow::Result<(f64, Reads, f64)> {
    let ingesting = tokio::spawn(ingest(channel(&pipeline.address).await?, seconds));
    let reading = read_on_thread(query.to_owned(), READS, seconds, source_for);
    let (reads, lag) = try_join!(reading, max_lag_records(pipeline, seconds))?;
    Ok((ingesting.await??, reads, lag))
}

async fn channel(address: &str) -> anyhow::Result<Channel> {
    Ok(Channel::from_shared(address.to_owned())?.tcp_nodelay(true).connect().await?)
}

/// The source for a sequence number.
fn source_for(turn: u64) -> String {
    name(nth(turn, SOURCES))
}

fn event(source: String, kind: &str) -> RecordRequest {
    RecordRequest { source, kind: kind.to_owned(), ..RecordRequest::default() }
}

/// Records events of every source as fast as possible; the number of events.
async fn fill(pipeline: &Pipeline) -> anyhow::Result<i64> {
    let events = (0..SOURCES).flat_map(|source| {
        let kind = if is_negative(source) { "failed" } else { "succeeded" };
        let times = if source % POSITIVE == 0 { SUCCESSES } else { 1 };
        (0..times).map(move |_| event(name(source), kind))
    });
    let batches = stream::iter(events).chunks(BACKLOG_BATCH).map(|events| RecordBatchRequest { events });
    let client = Client::new(channel(&pipeline.address).await?);
    let mut responses = client.record_stream(batches).await?.into_inner();
    let mut recorded = 0;
    while let Some(response) = responses.message().await? {
        recorded += response.accepted;
    }
    Ok(recorded)
}

/// Sends a batch every few milliseconds regardless of the responses; events acknowledged per second.
async fn ingest(channel: Channel, seconds: u64) -> anyhow::Result<f64> {
    let mut tick = interval(Duration::from_secs(1) * u32::try_from(BATCH)? / u32::try_from(EVENTS)?);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let batches = stream::unfold((tick, 0_u64), |(mut tick, first)| async move {
        tick.tick().await;
        let events = (first..first + BATCH).map(|turn| event(source_for(turn), "succeeded")).collect();
        Some((RecordBatchRequest { events }, (tick, first + BATCH)))
    });
    let batches = batches.take(usize::try_from(EVENTS / BATCH * seconds)?);
    let started = Instant::now();
    let mut responses = Client::new(channel).record_stream(batches).await?.into_inner();
    let mut acknowledged = 0;
    while let Some(response) = responses.message().await? {
        acknowledged += response.accepted;
    }
    Ok(acknowledged as f64 / started.elapsed().as_secs_f64())
}
