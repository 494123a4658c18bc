//! Failures that go back in time: a database that is restored, a topic that is created again. No answer in between claims to be exact and
//! is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use ping_memory::SystemClock;
use ping_ports::Clock;
use ping_runtime::env;
use ping_testbed::{
    Parts, Postgres,
    link::{Link, LinkState},
    ports::free_port,
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{
    process::Command,
    task::JoinHandle,
    time::{Duration, sleep},
};
use uuid::Uuid;

use crate::{
    processes::{Pingd, TIMEOUT, pipeline},
    topic::recreate_topic,
};

const DEAD_LETTERS: &str = "pings-dead-letter";
/// Sources that send events.
const SOURCES: usize = 20;

/// Records `count` events of all sources.
pub async fn record(server: &Pingd, count: usize) {
    let event = |number| json!({"eventId": Uuid::now_v7(), "source": format!("source-{}", number % SOURCES), "kind": "succeeded"});
    let events: Vec<_> = (0..count).map(event).collect();
    let started = Instant::now();
    for events in events.chunks(500) {
        // A lane notices only by a failed call that its connection or its writer is gone.
        while server.ask("EventService/RecordBatch", &json!({"events": events})).await.map_or(0, |answer| answer.0)
            != 200
        {
            assert!(started.elapsed() < TIMEOUT, "not recorded\n{}", server.log_tail());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// One answer of the server that claims to be exact.
#[derive(Clone, Debug)]
struct Exact {
    as_of: i64,
    count: i64,
    store: String,
}

/// Asks for the total and for the sum over all sources, until it is stopped.
pub struct Reader {
    stop: Arc<AtomicBool>,
    totals: Arc<Mutex<Vec<Exact>>>,
    sums: Arc<Mutex<Vec<Exact>>>,
    task: JoinHandle<()>,
}

fn number(value: &Value) -> i64 {
    value.as_str().map_or(0, |text| text.parse().unwrap())
}

/// The events of all sources, in the views.
async fn sum_of_sources(api: &str, http: &reqwest::Client) -> Option<Exact> {
    let url = format!("{api}/ping.v1.SourceService/TopSources");
    let answer = http.post(url).json(&json!({"limit": 1_000})).send().await.ok()?;
    let answer: Value = answer.error_for_status().ok()?.json().await.ok()?;
    let counts = answer["sources"].as_array().into_iter().flatten().map(|source| number(&source["count"]));
    Some(Exact { as_of: number(&answer["asOfMs"]), count: counts.sum(), store: "views".into() })
}

async fn total(api: &str, http: &reqwest::Client) -> Option<Exact> {
    let url = format!("{api}/ping.v1.PingService/PingCount");
    let answer: Value =
        http.post(url).json(&json!({})).send().await.ok()?.error_for_status().ok()?.json().await.ok()?;
    let store = answer["store"].as_str()?.to_owned();
    let exact = Exact { as_of: number(&answer["asOfMs"]), count: number(&answer["pingCount"]), store };
    (answer["exact"] == true).then_some(exact)
}

impl Reader {
    pub fn start(server: &Pingd) -> Self {
        let (stop, totals, sums) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let (api, http) = (server.api.clone(), reqwest::Client::builder().timeout(TIMEOUT / 10).build().unwrap());
        let (stopped, all_totals, all_sums) = (Arc::clone(&stop), Arc::clone(&totals), Arc::clone(&sums));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let answers: [(_, &Mutex<Vec<Exact>>); 2] =
                    [(total(&api, &http).await, &all_totals), (sum_of_sources(&api, &http).await, &all_sums)];
                for (answer, all) in answers {
                    all.lock().extend(answer);
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        Self { stop, totals, sums, task }
    }

    /// Waits for answers with a watermark after `went_back`, and checks all: with a watermark before `went_back`, at most what the store had `before` or later; with a
    /// later one, what it then had, from `low` to `high`, and at least `cached` from cache and views.
    pub async fn check(self, went_back: i64, before: i64, (low, high): (i64, i64), cached: i64) {
        let started = Instant::now();
        let is_late = |answers: &Mutex<Vec<Exact>>| answers.lock().iter().any(|answer| answer.as_of >= went_back);
        while !(is_late(&self.totals) && is_late(&self.sums)) {
            assert!(started.elapsed() < TIMEOUT, "no answer as of after the store or log went back");
            sleep(Duration::from_millis(10)).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        for (what, answers) in [("total", self.totals.lock().clone()), ("sum of sources", self.sums.lock().clone())] {
            let (early, late): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.as_of < went_back);
            let wrong = |answer: &&Exact| match answer.as_of < went_back {
                true => answer.count > before.max(high),
                false if answer.store == "STORE_DATABASE" => !(low..=high).contains(&answer.count),
                false => !(cached..=high).contains(&answer.count),
            };
            let found: Vec<_> = early.iter().chain(&late).filter(wrong).take(5).collect();
            println!(
                "{what}: {} answers as of before, {} as of after the store or log went back",
                early.len(),
                late.len()
            );
            assert!(found.is_empty(), "{what}: went back at {went_back} from {before} to {low} to {high}: {found:?}");
        }
    }
}

/// Waits until cache and views have `count` events, and their watermarks are later than `since`; returns how long it took.
pub async fn wait_for_exact(server: &Pingd, count: i64, since: i64) -> Duration {
    let (started, http) = (Instant::now(), reqwest::Client::new());
    loop {
        let (total, sum) = (total(&server.api, &http).await, sum_of_sources(&server.api, &http).await);
        let is_exact =
            |answer: &Exact| answer.count == count && answer.as_of > since && answer.store != "STORE_DATABASE";
        if total.as_ref().is_some_and(is_exact) && sum.as_ref().is_some_and(is_exact) {
            return started.elapsed();
        }
        assert!(started.elapsed() < TIMEOUT, "{total:?} and {sum:?}, not {count}\n{}", server.log_tail());
        sleep(Duration::from_millis(10)).await;
    }
}

/// Every source has as many events in the views as in the table.
pub async fn assert_sources_agree(parts: &Parts, server: &Pingd) {
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    let rows = "SELECT source, count(*) FROM events WHERE source IS NOT NULL GROUP BY 1";
    let rows: BTreeMap<String, i64> = sqlx::query_as(rows).fetch_all(&pool).await.unwrap().into_iter().collect();
    let top = server.query("TopSources", json!({"limit": 1_000})).await;
    let views = top["sources"].as_array().unwrap().iter();
    let views: BTreeMap<_, _> =
        views.map(|source| (source["source"].as_str().unwrap().to_owned(), number(&source["count"]))).collect();
    assert_eq!(views, rows);
    let (_, proof) = server.verify().await;
    assert_eq!(proof["exact"], true, "{proof}");
}

/// The reasons of all dead letters.
pub fn dead_letters(parts: &Parts, count: usize) -> Vec<String> {
    let mut config = ClientConfig::new();
    let consumer: BaseConsumer =
        config.set("bootstrap.servers", parts.kafka.brokers()).set("group.id", "letters").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(DEAD_LETTERS, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut reasons = Vec::new();
    while reasons.len() < count {
        let message = consumer.poll(Duration::from_secs(20)).expect("as many dead letters as phantoms").unwrap();
        let reason = message.headers().unwrap().iter().find(|header| header.key == "reason").unwrap();
        reasons.push(String::from_utf8(reason.value.unwrap().to_vec()).unwrap());
    }
    reasons
}

/// Waits until the server reports that `incarnation` has changed since `went_back`, with at least this many phantoms.
pub async fn reports_change(server: &Pingd, incarnation: &str, went_back: i64, phantoms: i64) {
    let started = Instant::now();
    loop {
        let (_, answer) = server.call("PingCount", &json!({})).await.unwrap();
        let change = &answer["incarnationChange"];
        let is_late = number(&change["noticedMs"]) >= went_back;
        if change["incarnation"] == incarnation && is_late && number(&change["phantomEvents"]) >= phantoms {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "{answer}\n{}", server.log_tail());
        sleep(Duration::from_millis(100)).await;
    }
}

/// Runs `pingctl dead-letters` against `server`; returns what it prints as JSON.
async fn pingctl(server: &Pingd, arguments: &[&str]) -> Value {
    let program = Path::new(env!("CARGO_BIN_EXE_pingd")).with_file_name("pingctl");
    let mut command = Command::new(program);
    command.arg("dead-letters").args(arguments).args(["--addr", &server.api, "--admin-addr", &server.admin, "--json"]);
    let output = command.env("PINGCTL_CONFIG", "/nonexistent").output().await;
    let output = output.expect("pingctl, as `cargo build --workspace --bins` builds it");
    assert!(output.status.success(), "pingctl {arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A pipeline with 1,500 events in a backup of Postgres, and 2,000 that came later.
pub async fn backed_up() -> (Parts, Pingd, Pingd) {
    let (mut parts, server, processor) = pipeline().await;
    record(&server, 1_500).await;
    wait_for_exact(&server, 1_500, 0).await;
    parts.postgres.back_up().await.unwrap();
    record(&server, 2_000).await;
    wait_for_exact(&server, 3_500, 0).await;
    (parts, server, processor)
}

#[tokio::test]
async fn a_database_that_goes_back_under_a_running_pipeline() {
    let (mut parts, server, processor) = backed_up().await;
    let reader = Reader::start(&server);
    parts.postgres.restore_backup().await.unwrap();
    let went_back = SystemClock.now();
    parts.postgres.restart().await.unwrap();
    let exact = wait_for_exact(&server, 1_500, went_back).await;
    println!("restored under a running pipeline: exact {exact:?} after Postgres was back");
    record(&server, 700).await;
    wait_for_exact(&server, 2_200, went_back).await;
    reader.check(went_back, 3_500, (1_500, 2_200), 1_500).await;
    assert_sources_agree(&parts, &server).await;
    assert!(processor.metric("ping_count_store_rollbacks_total").await >= 1.0);
    assert_eq!(processor.metric("ping_views_phantom_events_total").await, 2_000.0);
    let reasons = dead_letters(&parts, 2_000);
    assert!(reasons.iter().all(|reason| reason.contains("restored")), "{:?}", reasons.first());
}

#[tokio::test]
async fn a_database_that_goes_back_and_grows_while_no_processor_runs() {
    let (mut parts, server, mut processor) = backed_up().await;
    let reader = Reader::start(&server);
    processor.kill_9().await;
    parts.postgres.restore_backup().await.unwrap();
    let went_back = SystemClock.now();
    parts.postgres.restart().await.unwrap();
    let restored = Instant::now();
    // As many as were lost, and more: sums and log positions alone show nothing.
    record(&server, 3_000).await;
    while server.count(json!({})).await != (4_500, "STORE_DATABASE".into()) {
        assert!(restored.elapsed() < TIMEOUT, "the server still uses the cache\n{}", server.log_tail());
        sleep(Duration::from_millis(10)).await;
    }
    println!("restored without processors: the server reads the database {:?} after it was back", restored.elapsed());
    assert!(server.metric("ping_query_store_rollbacks_total").await >= 1.0);
    processor.restart();
    let exact = wait_for_exact(&server, 4_500, went_back).await;
    println!("restored without processors: exact {exact:?} after a processor was started");
    reader.check(went_back, 3_500, (1_500, 4_500), 4_500).await;
    assert_sources_agree(&parts, &server).await;
}

/// A link to Postgres, on a port of its own.
async fn link_to(postgres: &Postgres) -> Link {
    Link::start(free_port().unwrap(), postgres.port()).await.unwrap()
}

/// A primary fails whose last commits have not reached its asynchronous standby.
#[tokio::test]
async fn a_failover_that_loses_the_last_commits() {
    let mut parts = Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let (database, replication) = (link_to(&parts.postgres).await, link_to(&parts.postgres).await);
    let mut settings = parts.env().to_vec();
    let (_, url) = settings.iter_mut().find(|(name, _)| *name == env::POSTGRES_URL).unwrap();
    *url = url.replace(&parts.postgres.port().to_string(), &database.port().to_string());
    let (mut server, processor) =
        tokio::join!(Pingd::start_with_env("server", settings.clone()), Pingd::start_with_env("processor", settings));
    record(&server, 1_500).await;
    wait_for_exact(&server, 1_500, 0).await;
    let standby = Postgres::start_standby(replication.port()).await.unwrap();
    replication.set(LinkState { responses_cut: true, ..LinkState::default() });
    record(&server, 2_000).await;
    wait_for_exact(&server, 3_500, 0).await;
    let reader = Reader::start(&server);
    parts.postgres.kill_9().await.unwrap();
    let went_back = SystemClock.now();
    standby.promote().await.unwrap();
    database.redirect(standby.port());
    parts.postgres = standby;
    let promoted = Instant::now();
    wait_for_exact(&server, 1_500, went_back).await;
    println!("failover that loses 2,000 commits: exact {:?} after the standby was promoted", promoted.elapsed());
    record(&server, 700).await;
    wait_for_exact(&server, 2_200, went_back).await;
    reader.check(went_back, 3_500, (1_500, 2_200), 1_500).await;
    assert_sources_agree(&parts, &server).await;
    assert!(processor.metric("ping_count_store_rollbacks_total").await >= 1.0);
    assert_eq!(dead_letters(&parts, 2_000).len(), 2_000);

    let listed = pingctl(&server, &["--since", "1h", "--reason", "RESTORED", "--limit", "5000"]).await;
    let letters = listed["letters"].as_array().unwrap();
    let ids: BTreeSet<_> = letters.iter().map(|letter| letter["event"]["eventId"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), &listed["nextPageToken"]), (2_000, &json!("")));
    assert_eq!(pingctl(&server, &["--reason", "no such reason"]).await["letters"], json!([]));
    let place = letters[1_234]["place"].as_str().unwrap();
    for (recorded, already_recorded) in [(1, 0), (0, 1)] {
        let outcome = pingctl(&server, &["resend", "--place", place, "--yes"]).await;
        let expected = json!({"recorded": recorded, "alreadyRecorded": already_recorded, "refused": []});
        assert_eq!(outcome, expected, "{}", letters[1_234]);
        wait_for_exact(&server, 2_201, SystemClock.now()).await;
    }
    assert_sources_agree(&parts, &server).await;
    reports_change(&server, "INCARNATION_STORE", went_back, 2_000).await;
    server.kill_9().await;
    server.restart();
    server.wait_ready().await;
    reports_change(&server, "INCARNATION_STORE", went_back, 2_000).await;
}

#[tokio::test]
async fn a_topic_that_is_created_again_under_a_running_pipeline() {
    let (parts, server, processor) = pipeline().await;
    record(&server, 300).await;
    wait_for_exact(&server, 300, 0).await;
    let reader = Reader::start(&server);
    recreate_topic(&parts).await;
    let (recreated, since) = (Instant::now(), SystemClock.now());
    record(&server, 2_000).await;
    wait_for_exact(&server, 2_300, since).await;
    println!("topic created again under a running pipeline: exact {:?} later", recreated.elapsed());
    record(&server, 100).await;
    wait_for_exact(&server, 2_400, since).await;
    // The store never went back, so every answer holds at most what it had, and no later watermark has less.
    reader.check(since, 2_400, (300, 2_400), 300).await;
    assert_sources_agree(&parts, &server).await;
    println!("drifts: {}", processor.metric("ping_count_drifts_total").await);
}

#[tokio::test]
async fn a_topic_that_is_created_again_and_grows_past_the_positions_while_no_processor_runs() {
    let (parts, server, mut processor) = pipeline().await;
    // Twice: what is built from the store at first has read nothing from the log, so it need not notice that it is another one.
    for recorded in [150, 300] {
        record(&server, 150).await;
        wait_for_exact(&server, recorded, 0).await;
    }
    processor.kill_9().await;
    let reader = Reader::start(&server);
    recreate_topic(&parts).await;
    let since = SystemClock.now();
    record(&server, 2_000).await;
    // Until everything is published.
    sleep(Duration::from_secs(5)).await;
    processor.restart();
    let exact = wait_for_exact(&server, 2_300, since).await;
    println!("topic created again without processors: exact {exact:?} after a processor was started");
    reader.check(since, 2_300, (300, 2_300), 2_300).await;
    assert_sources_agree(&parts, &server).await;
    assert!(processor.metric("ping_count_log_recreations_total").await >= 1.0);
    assert!(processor.metric("ping_views_log_recreations_total").await >= 1.0);
    reports_change(&server, "INCARNATION_LOG", since, 0).await;
    assert_eq!(processor.metric("ping_count_drifts_total").await, 0.0);
}

/// The content of every key of the cache.
async fn snapshot(cache: &mut redis::aio::MultiplexedConnection) -> Vec<(String, Vec<u8>)> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(cache).await.unwrap();
    let mut saved = Vec::new();
    for key in keys {
        let value: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(cache).await.unwrap();
        saved.extend(value.map(|value| (key, value)));
    }
    saved
}

/// Replaces the content of the cache at once. No connection breaks, so nothing but the content shows it.
async fn restore(cache: &mut redis::aio::MultiplexedConnection, saved: &[(String, Vec<u8>)]) {
    let mut all = redis::pipe();
    all.atomic().cmd("FLUSHALL").ignore();
    for (key, value) in saved {
        all.cmd("RESTORE").arg(key).arg(0).arg(value).ignore();
    }
    all.query_async::<()>(cache).await.unwrap();
}

#[tokio::test]
async fn a_cache_that_goes_back_within_its_epoch() {
    let (parts, server, processor) = pipeline().await;
    let client = redis::Client::open(parts.redis.url()).unwrap();
    let mut cache = client.get_multiplexed_async_connection().await.unwrap();
    record(&server, 500).await;
    wait_for_exact(&server, 500, 0).await;
    let status = || server.query("GetStatus", json!({"source": "source-1"}));
    let before = status().await;
    assert_eq!(before["status"], "unknown", "{before}");
    let saved = snapshot(&mut cache).await;
    server.record("source-1", "failed", SystemClock.now()).await;
    record(&server, 300).await;
    wait_for_exact(&server, 801, 0).await;
    crate::statuses::becomes(&server, "source-1", "negative").await;
    let reader = Reader::start(&server);
    let went_back = SystemClock.now();
    restore(&mut cache, &saved).await;
    let exact = wait_for_exact(&server, 801, went_back).await;
    println!("cache restored from a snapshot: exact {exact:?} later");
    let mut later = 0;
    while later < 100 {
        let answer = status().await;
        if number(&answer["asOfMs"]) > went_back {
            later += 1;
            assert_eq!(answer["status"], "negative", "{answer}");
        }
        sleep(Duration::from_millis(10)).await;
    }
    reader.check(went_back, 801, (801, 801), 801).await;
    assert_eq!(processor.metric("ping_count_drifts_total").await, 0.0);
}
