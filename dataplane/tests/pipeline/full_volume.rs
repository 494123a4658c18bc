//! The volume of Postgres fills up under traffic, and grows later.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use ping_testbed::{
    Parts,
    kafka::Kafka,
    postgres::{Postgres, VolumeContent},
    redis::Redis,
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

use crate::processes::{Pingd, TIMEOUT};

const WRITERS: usize = 4;
const BATCH: usize = 200;
/// How long the volume stays full.
const FULL: Duration = Duration::from_secs(5);

/// How long callers may only learn that the store is unavailable, until it counts as not named.
const UNNAMED_AFTER: Duration = Duration::from_secs(3);

/// Clients that send a batch again until it is acknowledged, with the same ids.
struct Traffic {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    /// How often each code was answered with each message.
    refusals: Arc<Mutex<BTreeMap<(String, String), usize>>>,
    writers: JoinSet<()>,
}

fn batch() -> Value {
    let event = |number| json!({"eventId": Uuid::now_v7(), "source": format!("source-{number}"), "kind": "succeeded"});
    json!({"events": (0..BATCH).map(event).collect::<Vec<_>>()})
}

/// The code and the message of an error, without its id.
fn refusal(answer: &Value) -> (String, String) {
    let text = |field: &str| answer[field].as_str().unwrap_or("no answer").to_owned();
    let message = text("message");
    (text("code"), message.split(" (error ").next().unwrap_or_default().to_owned())
}

impl Traffic {
    fn start(api: &str) -> Self {
        let (stop, acknowledged, refusals) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicI64>::default(), Arc::default());
        let mut traffic = Self { stop, acknowledged, refusals, writers: JoinSet::new() };
        for _ in 0..WRITERS {
            let url = format!("{api}/ping.v1.EventService/RecordBatch");
            let (stop, acknowledged) = (Arc::clone(&traffic.stop), Arc::clone(&traffic.acknowledged));
            let refusals = Arc::clone(&traffic.refusals);
            traffic.writers.spawn(async move {
                let http = reqwest::Client::new();
                while !stop.load(Ordering::Relaxed) {
                    let batch = batch();
                    while let Err(answer) = send(&http, &url, &batch).await {
                        *refusals.lock().entry(refusal(&answer)).or_insert(0) += 1;
                        sleep(Duration::from_millis(100)).await;
                    }
                    acknowledged.fetch_add(BATCH as i64, Ordering::Relaxed);
                }
            });
        }
        traffic
    }

    /// Waits until a batch is refused because the disk is full. False: `postgres` ended before it could say so, because its log had no space,
    /// and callers learn that it is unavailable.
    async fn wait_until_full(&self, postgres: &Postgres) -> bool {
        let (started, mut ended) = (Instant::now(), None);
        let full = |(code, message): &(String, String)| {
            code == "resource_exhausted"
                && message.starts_with("the store has run out of disk space and nothing was recorded; retry later")
        };
        let unavailable = |(code, message): &(String, String)| {
            code == "unavailable" && message.starts_with("the store is unavailable and nothing was recorded; retry")
        };
        while !self.refusals.lock().keys().any(full) {
            if !postgres.is_running() && self.refusals.lock().keys().any(unavailable) {
                let ended: &mut Instant = ended.get_or_insert_with(Instant::now);
                if ended.elapsed() > UNNAMED_AFTER {
                    return false;
                }
            }
            assert!(started.elapsed() < TIMEOUT, "not refused: {:#?}", self.refusals.lock());
            sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// Stops once every batch is acknowledged; returns the number of events.
    async fn finish(mut self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.unwrap();
        }
        println!("refusals: {:#?}", self.refusals.lock());
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// The error, unless the batch is acknowledged as a whole.
async fn send(http: &reqwest::Client, url: &str, batch: &Value) -> Result<(), Value> {
    let sent = http.post(url).json(batch).timeout(Duration::from_secs(20)).send().await;
    let answer = sent.map_err(|error| json!({"message": error.to_string()}))?;
    let status = answer.status();
    let body: Value = answer.json().await.unwrap_or_default();
    if status != 200 {
        return Err(body);
    }
    assert!(body["refused"].as_array().is_none_or(Vec::is_empty), "{body}");
    Ok(())
}

/// Waits until `metric` of the server has this value.
async fn wait_for_metric(server: &Pingd, metric: &str, value: f64) {
    let started = Instant::now();
    while server.metric(metric).await != value {
        assert!(started.elapsed() < TIMEOUT, "{metric} is {}\n{}", server.metric(metric).await, server.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until counts come from the cache: on a busy machine, Postgres could be full before a processor has built it.
async fn wait_for_cache(server: &Pingd) {
    let started = Instant::now();
    loop {
        let (_, count) = server.call("PingCount", &json!({})).await.unwrap();
        if count["store"] == "STORE_CACHE" {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "{count}\n{}", server.log_tail());
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the counts of all sources add up to `expected`.
async fn wait_for_sum_of_sources(server: &Pingd, expected: i64) {
    let started = Instant::now();
    loop {
        let (status, answer) = server.ask("SourceService/TopSources", &json!({"limit": 1_000})).await.unwrap();
        let sources = answer["sources"].as_array().into_iter().flatten();
        let sum: i64 = sources.map(|source| source["count"].as_str().unwrap().parse::<i64>().unwrap()).sum();
        if status == 200 && sum == expected {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "{sum}, not {expected}: {answer}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Fills a volume of `mebibytes` with traffic, from `left` bytes on, and lets it grow.
async fn fill_and_grow(content: VolumeContent, mebibytes: u32, left: u64) {
    let settings = [("min_wal_size", "32MB"), ("max_wal_size", "48MB")];
    let (kafka, postgres, redis) =
        tokio::try_join!(Kafka::start(), Postgres::start_on_volume(content, mebibytes, &settings), Redis::start())
            .unwrap();
    let mut parts = Parts { postgres, kafka, redis };
    Pingd::migrate(&parts).await;
    let (server, _processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
    let traffic = Traffic::start(&server.api);
    wait_for_cache(&server).await;
    sleep(Duration::from_secs(1)).await;
    parts.postgres.fill_volume(left).unwrap();
    let is_named = traffic.wait_until_full(&parts.postgres).await;
    assert!(is_named || content != VolumeContent::Data);
    assert_eq!(server.metric("ping_ingest_store_full").await, f64::from(is_named));

    // Counts come from the cache, whether Postgres runs or not.
    let until = Instant::now() + FULL;
    let (mut reads, mut strong_reads) = (0, 0);
    while Instant::now() < until {
        let (status, count) = server.call("PingCount", &json!({})).await.unwrap();
        assert_eq!((status, &count["store"]), (200, &json!("STORE_CACHE")), "{count}\n{}", server.log_tail());
        let (status, _) = server.call("PingCount", &json!({"strong": true})).await.unwrap();
        (reads, strong_reads) = (reads + 1, strong_reads + usize::from(status == 200));
        sleep(Duration::from_millis(100)).await;
    }
    // With space for the log, Postgres runs, and answers reads.
    assert!(
        content != VolumeContent::Data || (parts.postgres.is_running() && strong_reads == reads),
        "{strong_reads} of {reads}"
    );
    let acknowledged_before = traffic.acknowledged.load(Ordering::Relaxed);

    parts.postgres.grow_volume(4 * mebibytes).await.unwrap();
    let grown = Instant::now();
    // As CloudNativePG does: an instance that has ended is started again.
    let has_ended = !parts.postgres.is_running();
    if has_ended {
        parts.postgres.restart().await.unwrap();
    }
    while traffic.acknowledged.load(Ordering::Relaxed) == acknowledged_before {
        assert!(grown.elapsed() < TIMEOUT, "nothing is acknowledged\n{}", server.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
    let accepts_after = grown.elapsed();
    let total = traffic.finish().await;
    server.wait_for_count(total).await;
    println!(
        "{content:?}: {total} events, {strong_reads} of {reads} strong reads answered while full, Postgres ended: {has_ended}; \
         accepts after {accepts_after:?}, exact after {:?}",
        grown.elapsed()
    );
    wait_for_metric(&server, "ping_ingest_store_full", 0.0).await;
    wait_for_sum_of_sources(&server, total).await;
    let (status, verified) = server.verify().await;
    assert_eq!((status, &verified["exact"]), (200, &json!(true)), "{verified}");
    assert_eq!(verified["rows"], json!(total.to_string()), "every acknowledged event is stored once");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make chaos"]
async fn a_full_volume_refuses_events_and_loses_nothing() {
    fill_and_grow(VolumeContent::All, 192, 6 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make chaos"]
async fn a_full_volume_beside_that_of_the_write_ahead_log_refuses_events_and_loses_nothing() {
    fill_and_grow(VolumeContent::Data, 128, 4 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make chaos"]
async fn a_full_volume_of_the_write_ahead_log_refuses_events_and_loses_nothing() {
    fill_and_grow(VolumeContent::Wal, 80, 1 << 20).await;
}
