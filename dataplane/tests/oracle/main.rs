//! The oracle test: plain SQL over the rows in Postgres computes what every view must contain, and the views contain it. The events of
//! 48 hours arrive shuffled, late, duplicated (10 %) and invalid (5 %), while the processor is killed ten times and the views are
//! deleted once.
//!
//! `EVENTS=n` sets the number of events (default 20,000), `SEED=n` the random seed.
#![cfg(test)]
#![allow(
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "a test binary has no callers; the process helpers are shared with the pipeline tests"
)]

#[path = "../pipeline/processes.rs"]
mod processes;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ping_client::Client;
use ping_core::{Minute, SourceCounts, Span, Window};
use ping_memory::SystemClock;
use ping_ports::Clock;
use ping_proto::{RecordBatchRequest, RecordRequest};
use ping_segments::{Family, Node, Place, StoredSegment, counts};
use ping_testbed::Parts;
use processes::Pingd;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::sleep;
use uuid::Uuid;

/// The oldest event happened this long ago, in milliseconds.
const MAX_AGE: i64 = 48 * 3_600_000;
/// Number of times the processor is killed.
const KILLS: usize = 10;
/// Events per call.
const BATCH: usize = 500;
const SOURCES: u32 = 300;

/// Per view: its name, a query that computes its contents from the rows alone, and a query that reads it. The first does not share SQL
/// with the code that maintains the view.
const ORACLE: [(&str, &str, &str); 5] = [
    (
        "windows",
        "SELECT source, to_timestamp(at / 300000 * 300) AS window_start, to_timestamp(at / 300000 * 300 + 300) AS window_end,
            count(*) AS ping_count, round(avg(at - before)::numeric, 6) AS avg_interval_ms
        FROM (SELECT source, timestamp_ms AS at,
                lag(timestamp_ms) OVER (PARTITION BY source, timestamp_ms / 300000 ORDER BY timestamp_ms) AS before
            FROM events WHERE source IS NOT NULL) AS each
        GROUP BY source, at / 300000",
        "SELECT source, window_start, window_end, ping_count, round(avg_interval_ms::numeric, 6) FROM window_stats",
    ),
    (
        "days",
        "SELECT source, (to_timestamp(timestamp_ms / 1000.0) AT TIME ZONE 'UTC')::date AS day, count(*) AS ping_count
        FROM events WHERE source IS NOT NULL GROUP BY 1, 2",
        "SELECT source, day, ping_count FROM daily_stats",
    ),
    (
        "minutes of everything",
        "SELECT timestamp_ms / 60000 AS bucket, count(*)::numeric AS count FROM events GROUP BY 1",
        "SELECT bucket, sum(count) FROM rollups WHERE width_minutes = 1 GROUP BY 1",
    ),
    (
        "days of everything",
        "SELECT timestamp_ms / 86400000 AS bucket, count(*)::numeric AS count FROM events GROUP BY 1",
        "SELECT bucket, sum(count) FROM rollups WHERE width_minutes = 1440 GROUP BY 1",
    ),
    (
        "total",
        "SELECT count(*)::numeric AS total FROM events",
        "SELECT sum(total) FROM writers",
    ),
];

fn variable(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().filter(|text| !text.is_empty());
    value.map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is \"{text}\"; it must be a whole number"))
    })
}

/// The reasons for which invalid events are refused, in turn.
const INVALID: [&str; 4] = ["Negative", "TooEarly", "NotAUuid", "Source"];

/// A server, and a processor that maintains every view. The sources per minute are only kept if minute summaries are published.
async fn pipeline_with_minutes() -> (Parts, Pingd, Pingd) {
    let parts = Parts::start().await.unwrap();
    let topic = ["--kafka-minutes-topic", "ping-minutes"];
    Pingd::migrate_with(&parts, &topic).await;
    let (server, processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &topic));
    (parts, server, processor)
}

/// The requests in the order in which they are sent: the events, a tenth of them twice, and 5 % invalid ones; and the number of invalid
/// ones.
fn requests(count: usize, seed: u64) -> (Vec<RecordRequest>, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let now = SystemClock.now();
    let mut events = Vec::with_capacity(count + count / 6);
    for _ in 0..count {
        // A few sources have most of the events; some events have no source and get the caller's address.
        let source = random.random_range(0..SOURCES) * random.random_range(0..SOURCES) / SOURCES;
        let source = if random.random_bool(0.05) { String::new() } else { format!("source-{source}.example") };
        let kind = ["", "succeeded", "succeeded", "opened", "failed"][random.random_range(0..5)].to_owned();
        let timestamp_ms = now - random.random_range(0..MAX_AGE);
        let id = Uuid::from_u128(random.random()).to_string();
        events.push(RecordRequest { event_id: id, source, kind, timestamp_ms, receipt: false });
    }
    let twice: Vec<_> = (0..count / 10).map(|_| events[random.random_range(0..count)].clone()).collect();
    events.extend(twice);
    let invalid = count / 20;
    for place in 0..invalid {
        let whole = events[random.random_range(0..count)].clone();
        events.push(match INVALID[place % INVALID.len()] {
            "Negative" => RecordRequest { timestamp_ms: -1, ..whole },
            "TooEarly" => RecordRequest { timestamp_ms: now / 1_000, ..whole },
            "NotAUuid" => RecordRequest { event_id: "not a uuid".into(), ..whole },
            _ => RecordRequest { source: "x".repeat(300), ..whole },
        });
    }
    events.shuffle(&mut random);
    (events, invalid)
}

/// Events per source and kind, as the rows say.
const KINDS: &str = "SELECT source, coalesce(kind, '') AS kind, count(*) AS count, min(timestamp_ms) AS first_ms, max(timestamp_ms) AS last_ms
FROM events WHERE source IS NOT NULL GROUP BY 1, 2";
/// Windows, as the rows say: source, window, count, first and last time.
const WINDOWS: &str = "SELECT source, timestamp_ms / 300000, count(*), min(timestamp_ms), max(timestamp_ms)
FROM events WHERE source IS NOT NULL GROUP BY 1, 2";
/// The sources of the last half hour, as the rows say.
const MINUTES: &str = "SELECT DISTINCT timestamp_ms / 60000, source FROM events
WHERE source IS NOT NULL AND timestamp_ms / 60000 >= extract(epoch FROM now())::bigint / 60 - 30";

/// What the segments hold.
async fn segments(pool: &PgPool) -> SourceCounts {
    type Row = (i64, i16, i32, i64, Vec<u8>);
    let rows: Vec<Row> =
        sqlx::query_as("SELECT id, family, node, period, data FROM source_segments").fetch_all(pool).await.unwrap();
    let segment = |(id, family, node, period, data)| {
        let place = Place { family: Family::from_code(family).unwrap(), node: Node(node), period };
        StoredSegment { id, place, data }
    };
    counts(&rows.into_iter().map(segment).collect::<Vec<_>>()).unwrap()
}

/// The views in segments that differ from the rows.
async fn differing_segments(pool: &PgPool) -> Vec<String> {
    type Spans<K> = BTreeMap<(Box<str>, K), Span>;
    let held = segments(pool).await;
    let kinds: Vec<(String, String, i64, i64, i64)> = sqlx::query_as(KINDS).fetch_all(pool).await.unwrap();
    let kinds: Spans<Box<str>> = kinds
        .into_iter()
        .map(|(s, k, count, first, last)| ((s.into(), k.into()), Span { count, first, last }))
        .collect();
    let windows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(WINDOWS).fetch_all(pool).await.unwrap();
    let windows: Spans<Window> = windows
        .into_iter()
        .map(|(source, window, count, first, last)| ((source.into(), Window(window)), Span { count, first, last }))
        .collect();
    let minutes: Vec<(i64, String)> = sqlx::query_as(MINUTES).fetch_all(pool).await.unwrap();
    let minutes: BTreeSet<_> = minutes.into_iter().map(|(minute, source)| (Minute(minute), source.into())).collect();
    let since = Minute::of(SystemClock.now()).back(29);
    let recent = |minutes: &BTreeSet<(Minute, Box<str>)>| {
        minutes.iter().filter(|(minute, _)| *minute >= since).cloned().collect::<BTreeSet<_>>()
    };
    let mut days = BTreeMap::new();
    for ((source, window), span) in &windows {
        *days.entry((source.clone(), window.day())).or_insert(0) += span.count;
    }
    let equal = [
        ("segments of kinds", held.kinds == kinds),
        ("segments of windows", held.windows == windows),
        ("segments of days", held.days == days),
        ("segments of minutes", recent(&held.minutes) == recent(&minutes)),
    ];
    equal.iter().filter(|(_, equal)| !equal).map(|(view, _)| format!("{view} differ")).collect()
}

/// The views that differ from the oracle, each with the number of missing and wrong rows.
async fn differences(pool: &PgPool) -> Vec<String> {
    let mut found = differing_segments(pool).await;
    for (view, oracle, actual) in ORACLE {
        let sql = format!(
            "WITH oracle AS ({oracle}), actual AS ({actual})
            SELECT (SELECT count(*) FROM (TABLE oracle EXCEPT ALL TABLE actual) AS missing),
                (SELECT count(*) FROM (TABLE actual EXCEPT ALL TABLE oracle) AS wrong)"
        );
        let (missing, wrong): (i64, i64) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap();
        if missing + wrong > 0 {
            found.push(format!("{view}: {missing} rows missing, {wrong} wrong"));
        }
    }
    found
}

/// The sum of the offsets up to which the views have counted.
async fn progress(pool: &PgPool) -> i64 {
    let sum = "SELECT coalesce(sum(next), 0)::bigint FROM source_positions";
    sqlx::query_scalar(sum).fetch_one(pool).await.unwrap()
}

/// Waits until the processor has made progress since `before`, so that killing it interrupts something. Its consumer group waits six
/// seconds for a member that was killed.
async fn wait_for_progress(pool: &PgPool, before: i64) {
    let started = Instant::now();
    while progress(pool).await == before {
        assert!(started.elapsed() < processes::TIMEOUT, "the views make no progress");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_is_what_the_rows_say() {
    let count = usize::try_from(variable("EVENTS", 20_000)).unwrap();
    let seed = variable("SEED", 1);
    println!("EVENTS={count} SEED={seed}");
    let (parts, server, mut processor) = pipeline_with_minutes().await;
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    let (requests, invalid) = requests(count, seed);
    let (mut accepted, mut refused) = (0, 0);
    let client = Client::connect(&server.api).await.unwrap();
    let batches: Vec<_> = requests.chunks(BATCH).collect();
    let (kill_every, delete_at) = ((batches.len() / (KILLS + 1)).max(1), batches.len() / 2);
    let (mut kills, mut reached) = (0, 0);
    for (place, batch) in batches.iter().enumerate() {
        let answer = client.record_batch(RecordBatchRequest { events: batch.to_vec() }).await.unwrap().into_inner();
        accepted += answer.accepted;
        refused += answer.refused.len();
        assert!(answer.refused.iter().all(|refused| refused.code == "invalid_argument" && !refused.message.is_empty()));
        if place % kill_every == kill_every - 1 && kills < KILLS {
            wait_for_progress(&pool, reached).await;
            processor.kill_9().await;
            reached = progress(&pool).await;
            processor.restart();
            kills += 1;
        }
        if place == delete_at {
            sqlx::query("DELETE FROM source_views").execute(&pool).await.unwrap();
        }
    }
    assert_eq!((accepted, refused, kills), (i64::try_from(count).unwrap(), invalid, KILLS));
    for (place, reason) in INVALID.iter().enumerate() {
        let share = (invalid + INVALID.len() - 1 - place) / INVALID.len();
        let metric = format!("ping_rpc_invalid_pings_total{{reason=\"{reason}\"}}");
        assert_eq!(server.metric(&metric).await, share as f64, "{reason}");
    }
    let quiet = Instant::now();
    let timeout = Duration::from_secs(120) + Duration::from_millis(u64::try_from(count / 10).unwrap());
    loop {
        let found = differences(&pool).await;
        if found.is_empty() {
            break;
        }
        assert!(quiet.elapsed() < timeout, "{found:?}\n{}", processor.log_tail());
        sleep(Duration::from_millis(200)).await;
    }
    println!("every view equals the oracle {:?} after the last acknowledgement", quiet.elapsed());
    // It stays so: events in flight must not be counted twice.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(differences(&pool).await, [""; 0]);
    server.wait_for_count(i64::try_from(count).unwrap()).await;
}

#[tokio::test]
async fn the_oracle_notices_a_wrong_row() {
    let (parts, server, processor) = pipeline_with_minutes().await;
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    let client = Client::connect(&server.api).await.unwrap();
    let event = |place: i64| RecordRequest {
        source: "a".into(),
        timestamp_ms: SystemClock.now() - place * 1_000,
        ..RecordRequest::default()
    };
    client.record_batch(RecordBatchRequest { events: (0..5).map(event).collect() }).await.unwrap();
    let started = Instant::now();
    while !differences(&pool).await.is_empty() {
        assert!(started.elapsed() < processes::TIMEOUT, "{}", processor.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
    for (view, spoil) in [
        ("windows", "UPDATE source_windows SET last_ms = last_ms + 1"),
        ("days", "INSERT INTO source_past_days SELECT source, bucket / 288 - 1, 1 FROM source_windows LIMIT 1"),
        ("segments of kinds", "DELETE FROM source_segments WHERE family = 0"),
    ] {
        sqlx::query(spoil).execute(&pool).await.unwrap();
        assert!(differences(&pool).await.iter().any(|found| found.starts_with(view)), "{view}");
    }
}
