//! What a source is, asked of a million of them while they go on: reads at a fixed rate beside ingestion at a fixed rate, and
//! what a source costs in the cache and in Postgres.

use std::{os::fd::OwnedFd, time::Duration};

use anyhow::{Context, ensure};
use futures::{StreamExt, stream};
use hdrhistogram::Histogram;
use ping_dataplane::wire::{
    GetStatusRequest, RecordBatchRequest, RecordRequest, Store, event_service_client::EventServiceClient,
    source_service_client::SourceServiceClient,
};
use rustix::{
    io::read,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};
use tokio::{
    io::unix::AsyncFd,
    process::Command,
    runtime::Builder,
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tonic::transport::Channel;

use crate::{machine, pipeline::Pipeline, report::Report};

const SOURCES: u64 = 1_000_000;
/// One in so many has bounced: what it is, is final.
const BOUNCED: u64 = 100;
/// One in so many has the thousand deliveries that the rule asks for; all others have one, and are unknown.
const BUSY: u64 = 10_000;
const DELIVERIES: u64 = 1_000;
/// What is asked of the system (issue 6).
const READS: u64 = 5_000;
const EVENTS: u64 = 20_000;
/// Reads are due that often, a few at once.
const TICK: Duration = Duration::from_millis(1);
const LIMIT_MS: f64 = 5.0;
/// Events of a batch: of the backlog, and under load.
const BACKLOG_BATCH: usize = 1_000;
const BATCH: u64 = 100;
const CONNECTIONS: usize = 4;
/// A prime, so that walking in steps of it meets every source once before it meets one again.
const STRIDE: u64 = 2_654_435_761;
/// Seconds of the same load that are not measured.
const WARM_UP: u64 = 30;
/// How long the views may take to catch up.
const PATIENCE: Duration = Duration::from_secs(600);

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
    let alone = query.clone();
    spawn_blocking(move || read_apart(alone, WARM_UP)).await??.note(report, "status: reads, nothing else");
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
    let address = query.to_owned();
    let reading = spawn_blocking(move || read_apart(address, seconds));
    let behind = most_behind(pipeline, seconds).await?;
    Ok((ingesting.await??, reading.await??, behind))
}

async fn channel(address: &str) -> anyhow::Result<Channel> {
    Ok(Channel::from_shared(address.to_owned())?.tcp_nodelay(true).connect().await?)
}

fn name(source: u64) -> String {
    format!("source-{source:09}.example")
}

fn event(source: u64, kind: &str) -> RecordRequest {
    RecordRequest { source: name(source), kind: kind.to_owned(), ..RecordRequest::default() }
}

/// Every source, as fast as it goes; how many events that were.
async fn fill(pipeline: &Pipeline) -> anyhow::Result<i64> {
    let events = (0..SOURCES).flat_map(|source| {
        let kind = if source % BOUNCED == 1 { "bounced" } else { "delivered" };
        let times = if source % BUSY == 0 { DELIVERIES } else { 1 };
        (0..times).map(move |_| event(source, kind))
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
        ensure!(started.elapsed() < PATIENCE, "the views did not catch up");
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
        let sources = (place..place + BATCH).map(|turn| turn.wrapping_mul(STRIDE) % SOURCES);
        let events = sources.map(|source| event(source, "delivered")).collect();
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

/// What reading was like.
struct Reads {
    /// From the time a read was due, so that a server that stands still is not asked less.
    latency: Histogram<u64>,
    cached: u64,
    took: Duration,
    /// Percent of the cores' time meanwhile that the host gave to somebody else.
    stolen: f64,
}

impl Reads {
    fn note(&self, report: &mut Report, name: &str) {
        let reads = self.latency.len() as f64;
        report.add(name, reads / self.took.as_secs_f64(), "reads/s");
        let at = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        report.add(format!("{name}: p50"), at(0.5), "ms");
        report.add(format!("{name}: p95"), at(0.95), "ms");
        report.compare(format!("{name}: p99"), at(0.99), "ms", "what is asked", LIMIT_MS);
        report.add(format!("{name}: max"), at(1.0), "ms");
        report.add(format!("{name} answered by the cache"), self.cached as f64 / reads * 100.0, "%");
        report.add(format!("{name}: time of the cores that the host took"), self.stolen, "%");
    }
}

/// Reads on a thread of its own: what is measured is not how long the writing load kept this process.
fn read_apart(address: String, seconds: u64) -> anyhow::Result<Reads> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(SourceServiceClient::new(channel(&address).await?));
        }
        ask(clients, seconds).await
    })
}

/// Says when reads are due: a few every millisecond.
///
/// The kernel's timer, because the runtime's own only know whole milliseconds, and being late by up to one would count as the
/// server's.
struct Ticks {
    timer: AsyncFd<OwnedFd>,
    next: Instant,
}

impl Ticks {
    #[expect(deprecated, reason = "sound for a descriptor that is owned; its successor is not for safe code")]
    fn start() -> anyhow::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let every = Timespec::try_from(TICK)?;
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(Self { timer: AsyncFd::new(timer)?, next: Instant::now() + TICK })
    }

    /// The times that have come since the last call.
    async fn due(&mut self) -> anyhow::Result<Vec<Instant>> {
        let mut expirations = [0; 8];
        loop {
            let mut ready = self.timer.readable().await?;
            if let Ok(read) = ready.try_io(|timer| Ok(read(timer, &mut expirations)?)) {
                read?;
                break;
            }
        }
        let first = self.next;
        let due = (0..u32::try_from(u64::from_ne_bytes(expirations))?).map(|tick| first + TICK * tick);
        let due: Vec<_> = due.collect();
        self.next = first + TICK * u32::try_from(due.len())?;
        Ok(due)
    }
}

/// Reads as they are due, each of another source.
async fn ask(clients: Vec<SourceServiceClient<Channel>>, seconds: u64) -> anyhow::Result<Reads> {
    let mut reads = Reads { latency: Histogram::new(3)?, cached: 0, took: Duration::ZERO, stolen: 0.0 };
    let (mut asked, mut turn, started) = (JoinSet::new(), 0_u64, Instant::now());
    let before = machine::CoreTime::now();
    let mut ticks = Ticks::start()?;
    while turn < READS * seconds {
        for due in ticks.due().await? {
            for _ in 0..READS / 1_000 {
                turn += 1;
                let mut client = clients[usize::try_from(turn)? % clients.len()].clone();
                let source = name(turn.wrapping_mul(STRIDE) % SOURCES);
                asked.spawn(async move {
                    let answer = client.get_status(GetStatusRequest { source }).await?.into_inner();
                    anyhow::Ok((due.elapsed(), answer.store == i32::from(Store::Cache)))
                });
            }
        }
        while let Some(answer) = asked.try_join_next() {
            reads.take(answer??)?;
        }
    }
    while let Some(answer) = asked.join_next().await {
        reads.take(answer??)?;
    }
    reads.took = started.elapsed();
    reads.stolen = before.stolen_since();
    Ok(reads)
}

impl Reads {
    fn take(&mut self, (latency, cached): (Duration, bool)) -> anyhow::Result<()> {
        self.latency.record(u64::try_from(latency.as_micros())?.max(1))?;
        self.cached += u64::from(cached);
        Ok(())
    }
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
