//! What a source is, asked of a million of them while they go on: reads at a fixed rate beside ingestion at a fixed rate, and
//! what a source costs in the cache and in Postgres.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, stream};
use ping_proto::{RecordBatchRequest, RecordRequest, event_service_client::EventServiceClient};
use tokio::{
    process::Command,
    time::{Instant, MissedTickBehavior, interval, sleep},
    try_join,
};
use tonic::transport::Channel;

use crate::{
    machine,
    pipeline::Pipeline,
    reads::{Reads, read_apart},
    report::Report,
};

const SOURCES: u64 = 1_000_000;
/// One in so many has bounced: what it is, is final.
const BOUNCED: u64 = 100;
/// One in so many has the thousand deliveries that the rule asks for; all others have one, and are unknown.
const BUSY: u64 = 10_000;
const DELIVERIES: u64 = 1_000;
/// Events per second, as asked of the system (issue 6).
const EVENTS: u64 = 20_000;
/// Events of a batch: of the backlog, and under load.
const BACKLOG_BATCH: usize = 1_000;
const BATCH: u64 = 100;
/// A prime, so that walking in steps of it meets every source once before it meets one again.
const STRIDE: u64 = 2_654_435_761;
/// Seconds of the same load that are not measured.
const WARM_UP: u64 = 30;
/// How long the views may take to catch up.
const TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) async fn measure(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::start(true).await?;
    pipeline.warm_up().await?;
    let empty = (cache_bytes(&pipeline).await?, view_bytes(&pipeline).await?);
    let started = Instant::now();
    let recorded = fill(&pipeline).await?;
    catch_up(&pipeline).await?;
    let rate = recorded as f64 / started.elapsed().as_secs_f64();
    report.add("status: a million sources recorded, views included", rate, "events/s");
    let sources = SOURCES as f64;
    let per_source = (cache_bytes(&pipeline).await? - empty.0) / sources;
    report.add("status: cache", per_source, "bytes per source");
    report.add("status: cache, 10 M sources by that", per_source * 1e7 / 1024.0_f64.powi(3), "GiB");
    let per_source = (view_bytes(&pipeline).await? - empty.1) / sources;
    report.add("status: Postgres, all views", per_source, "bytes per source");
    report.add("status: Postgres, 10 M sources by that", per_source * 1e7 / 1024.0_f64.powi(3), "GiB");

    let query = pipeline.start_query().await?;
    let shares = pipeline.share()?;
    report.add("status: programs with the weight of their requests", shares.len() as f64, "programs");
    read_apart(query.clone(), WARM_UP, walked).await?.note(report, "status: reads, nothing else");
    // As it was for days: for its first half minute a broker compiles itself for what it is asked.
    under_load(&pipeline, &query, WARM_UP).await?;
    catch_up(&pipeline).await?;
    let before = pipeline.cost();
    let (events, reads, behind) = under_load(&pipeline, &query, seconds).await?;
    reads.note(report, "status: reads");
    report.add("status: ingestion meanwhile", events, "events/s acknowledged");
    report.add("status: views, most behind", behind, "records");
    let ended = Instant::now();
    catch_up(&pipeline).await?;
    report.add("status: views, caught up after", ended.elapsed().as_secs_f64(), "s");
    pipeline.note_cost(report, "status", &before, events * seconds as f64);
    report.add("status: server's most memory", machine::peak_mib(pipeline.server.pid()), "MiB");
    if let Some(processor) = &pipeline.processor {
        report.add("status: processor's most memory", machine::peak_mib(processor.pid()), "MiB");
    }
    pipeline.settle().await?;
    Ok(())
}

/// Writes and reads at their rates for some seconds: events acknowledged per second, the reads, and how far the views were behind.
async fn under_load(pipeline: &Pipeline, query: &str, seconds: u64) -> anyhow::Result<(f64, Reads, f64)> {
    let ingesting = tokio::spawn(ingest(channel(&pipeline.address).await?, seconds));
    let reading = read_apart(query.to_owned(), seconds, walked);
    let (reads, behind) = try_join!(reading, most_behind(pipeline, seconds))?;
    Ok((ingesting.await??, reads, behind))
}

async fn channel(address: &str) -> anyhow::Result<Channel> {
    Ok(Channel::from_shared(address.to_owned())?.tcp_nodelay(true).connect().await?)
}

fn name(source: u64) -> String {
    format!("source-{source:09}.example")
}

/// The source that is met in this turn.
fn walked(turn: u64) -> String {
    name(turn.wrapping_mul(STRIDE) % SOURCES)
}

fn event(source: String, kind: &str) -> RecordRequest {
    RecordRequest { source, kind: kind.to_owned(), ..RecordRequest::default() }
}

/// Every source, as fast as it goes; how many events that were.
async fn fill(pipeline: &Pipeline) -> anyhow::Result<i64> {
    let events = (0..SOURCES).flat_map(|source| {
        let kind = if source % BOUNCED == 1 { "bounced" } else { "delivered" };
        let times = if source % BUSY == 0 { DELIVERIES } else { 1 };
        (0..times).map(move |_| event(name(source), kind))
    });
    let batches = stream::iter(events).chunks(BACKLOG_BATCH).map(|events| RecordBatchRequest { events });
    let mut client = EventServiceClient::new(channel(&pipeline.address).await?);
    let mut answers = client.record_stream(batches).await?.into_inner();
    let mut recorded = 0;
    while let Some(answer) = answers.message().await? {
        recorded += answer.accepted;
    }
    Ok(recorded)
}

/// Waits until the views hold every event that is stored.
async fn catch_up(pipeline: &Pipeline) -> anyhow::Result<()> {
    let (started, stored) = (Instant::now(), pipeline.stored().await? as f64);
    loop {
        // Pings of the warm-up are of somebody, too.
        let seen = "SELECT coalesce(sum(count), 0) FROM source_kinds";
        if most_behind(pipeline, 0).await? == 0.0 && number(pipeline, seen).await? >= stored {
            return Ok(());
        }
        ensure!(started.elapsed() < TIMEOUT, "the views did not catch up");
        sleep(Duration::from_millis(200)).await;
    }
}

/// The most records by which the views were behind, now and in the `seconds` to come.
async fn most_behind(pipeline: &Pipeline, seconds: u64) -> anyhow::Result<f64> {
    let processor = pipeline.processor.as_ref().context("no processor")?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut most = processor.metric("ping_views_lag_records").await?;
    while Instant::now() < end {
        sleep(Duration::from_secs(1)).await;
        most = most.max(processor.metric("ping_views_lag_records").await?);
    }
    Ok(most)
}

/// A batch every few milliseconds, whatever the server says; events acknowledged per second.
async fn ingest(channel: Channel, seconds: u64) -> anyhow::Result<f64> {
    let mut tick = interval(Duration::from_secs(1) * u32::try_from(BATCH)? / u32::try_from(EVENTS)?);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let batches = stream::unfold((tick, 0_u64), |(mut tick, place)| async move {
        tick.tick().await;
        let events = (place..place + BATCH).map(|turn| event(walked(turn), "delivered")).collect();
        Some((RecordBatchRequest { events }, (tick, place + BATCH)))
    });
    let batches = batches.take(usize::try_from(EVENTS / BATCH * seconds)?);
    let started = Instant::now();
    let mut answers = EventServiceClient::new(channel).record_stream(batches).await?.into_inner();
    let mut acknowledged = 0;
    while let Some(answer) = answers.message().await? {
        acknowledged += answer.accepted;
    }
    Ok(acknowledged as f64 / started.elapsed().as_secs_f64())
}

/// Memory that the cache uses, in bytes.
async fn cache_bytes(pipeline: &Pipeline) -> anyhow::Result<f64> {
    let mut connection = redis::Client::open(pipeline.parts.redis.url())?.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.context("no used_memory")?.trim().parse()?)
}

/// Bytes on disk of the views with their indexes, in all partitions.
async fn view_bytes(pipeline: &Pipeline) -> anyhow::Result<f64> {
    let tables =
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'source\\_%'";
    number(pipeline, tables).await
}

async fn number(pipeline: &Pipeline, query: &str) -> anyhow::Result<f64> {
    let output = Command::new("psql").args([&pipeline.parts.postgres.url(), "-Atc", query]).output().await?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
