//! Statistics per source, from outside.

use std::time::Instant;

use ping_memory::SystemClock;
use ping_ports::Clock;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::{
    processes::{Pingd, TIMEOUT, pipeline},
    statuses::becomes,
};

const WINDOW: i64 = 300_000;

impl Pingd {
    pub async fn record(&self, source: &str, kind: &str, at: i64) {
        let body = json!({"source": source, "kind": kind, "timestampMs": at});
        let (status, answer) = self.ask("EventService/Record", &body).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn query(&self, method: &str, body: Value) -> Value {
        let (status, answer) = self.ask(&format!("SourceService/{method}"), &body).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Waits until `source` has `count` events; returns its statistics.
    pub async fn wait_for_source(&self, source: &str, count: i64) -> Value {
        let started = Instant::now();
        loop {
            let stats = self.query("SourceStats", json!({"source": source})).await;
            if stats["count"] == json!(count.to_string()) {
                return stats;
            }
            assert!(started.elapsed() < TIMEOUT, "{stats}, not {count}\n{}", self.log_tail());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Three events of one source in a closed window, and one of another source now.
async fn a_source_has_a_history(server: &Pingd) {
    let now = SystemClock.now();
    let window = (now - 3 * WINDOW) / WINDOW * WINDOW;
    server.record("example.com", "succeeded", window + 40_000).await;
    server.record("example.com", "succeeded", window + 10_000).await;
    server.record("example.com", "failed", window + 100_000).await;
    server.record("other.com", "", now).await;
    server.call("Ping", &json!({})).await.unwrap();
    let stats = server.wait_for_source("example.com", 3).await;
    assert_eq!((&stats["last24h"], &stats["firstSeenMs"]), (&json!("3"), &json!((window + 10_000).to_string())));
    let kinds: Vec<_> = stats["kinds"].as_array().unwrap().iter().map(|kind| (&kind["kind"], &kind["count"])).collect();
    assert_eq!(kinds, [(&json!("failed"), &json!("1")), (&json!("succeeded"), &json!("2"))]);
    let other = server.wait_for_source("other.com", 1).await;
    assert_eq!(other["kinds"][0]["kind"], "ping");

    let range = json!({"start": window - WINDOW, "end": window + 2 * WINDOW});
    let series = server.query("Series", json!({"source": "example.com", "timeRange": range})).await;
    let points = series["points"].as_array().unwrap();
    let counts: Vec<_> = points.iter().map(|point| point["count"].as_str().unwrap()).collect();
    assert_eq!(counts, ["0", "3", "0"], "gaps are filled");
    assert!(points.iter().all(|point| point["closed"] == true), "{series}");
    assert_eq!((&points[1]["startMs"], &points[1]["avgIntervalMs"]), (&json!(window.to_string()), &json!(45_000.0)));

    let everything = server.query("Series", json!({"timeRange": range, "step": "STEP_MINUTE"})).await;
    let points = everything["points"].as_array().unwrap();
    let sum: i64 = points.iter().map(|point| point["count"].as_str().unwrap().parse::<i64>().unwrap()).sum();
    assert_eq!((points.len(), sum), (15, 3));

    let top = server.query("TopSources", json!({})).await;
    assert_eq!(top["sources"][0], json!({"source": "example.com", "count": "3"}));
    let top = server.query("TopSources", json!({"timeRange": range, "limit": 1})).await;
    assert_eq!(top["sources"], json!([{"source": "example.com", "count": "3"}]));
    assert_eq!(server.query("SourceStats", json!({"source": "nobody"})).await["count"], "0");
}

fn number(answer: &Value, field: &str) -> i64 {
    answer[field].as_str().unwrap().parse().unwrap()
}

/// `as_of` advances without events, and past windows close by the clock. Other tests share the two cores, so not every answer is
/// within a second of it.
async fn answers_get_newer_without_events(server: &Pingd) {
    let range = json!({"start": SystemClock.now() / WINDOW * WINDOW - WINDOW});
    for (method, body) in [
        ("SourceStats", json!({"source": "example.com"})),
        ("TopSources", json!({})),
        ("Series", json!({"source": "example.com", "timeRange": range})),
        ("GetStatus", json!({"source": "example.com"})),
    ] {
        let before = SystemClock.now();
        let (started, mut least) = (Instant::now(), i64::MAX);
        loop {
            let answer = server.query(method, body.clone()).await;
            let (as_of, now) = (number(&answer, "asOfMs"), SystemClock.now());
            assert!(as_of <= now && number(&answer, "lagMs") >= 0, "{method}: {answer}");
            least = least.min(now - as_of);
            if as_of > before && least < 1_000 {
                break;
            }
            assert!(started.elapsed() < TIMEOUT, "{method} as of {as_of}, it is {now}; {least} ms behind at best");
            sleep(Duration::from_millis(50)).await;
        }
        println!("{method} without events: {least} ms behind at best");
    }
    let series = server.query("Series", json!({"source": "example.com", "timeRange": range})).await;
    let as_of = number(&series, "asOfMs");
    for point in series["points"].as_array().unwrap() {
        let over = number(point, "startMs") + WINDOW <= as_of;
        assert_eq!(point.get("closed").is_some_and(|closed| closed == true), over, "{point} as of {as_of}");
    }
}

/// Waits until all windows have rows for SQL. After a rebuild they follow later.
pub async fn wait_for_rows(postgres_url: &str) {
    let pool = sqlx::PgPool::connect(postgres_url).await.unwrap();
    let (started, complete) = (Instant::now(), "SELECT windows_until = 'infinity' FROM stats_watermark");
    while !sqlx::query_scalar::<_, bool>(complete).fetch_one(&pool).await.unwrap() {
        assert!(started.elapsed() < TIMEOUT, "rows for SQL do not follow");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_source_has_a_history_in_memory_and_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let pingd = Pingd::dev(&["--memory"]).await;
    a_source_has_a_history(&pingd).await;
    answers_get_newer_without_events(&pingd).await;
    let mut pingd = Pingd::dev(&["--data", folder.path().to_str().unwrap()]).await;
    a_source_has_a_history(&pingd).await;
    answers_get_newer_without_events(&pingd).await;
    // The in-memory log starts empty: the views are rebuilt from the rows.
    pingd.kill_9().await;
    pingd.restart();
    pingd.wait_ready().await;
    pingd.wait_for_source("example.com", 3).await;
    pingd.record("example.com", "succeeded", SystemClock.now()).await;
    pingd.wait_for_source("example.com", 4).await;
}

#[tokio::test]
async fn a_source_has_a_history_on_real_parts_and_in_tables() {
    let (parts, server, mut processor) = pipeline().await;
    a_source_has_a_history(&server).await;
    answers_get_newer_without_events(&server).await;
    processor.kill_9().await;
    server.record("example.com", "succeeded", SystemClock.now()).await;
    processor.restart();
    server.wait_for_source("example.com", 4).await;
    wait_for_rows(&parts.postgres.url()).await;
    let pool = sqlx::PgPool::connect(&parts.postgres.url()).await.unwrap();
    let windows: Vec<(i64, Option<f64>, f64)> = sqlx::query_as(
        "SELECT ping_count, avg_interval_ms, extract(epoch FROM window_end - window_start)::float8 FROM window_stats
        WHERE source = 'example.com' ORDER BY window_start",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(windows, [(3, Some(45_000.0), 300.0), (1, None, 300.0)]);
    let days: i64 =
        sqlx::query_scalar("SELECT sum(ping_count)::bigint FROM daily_stats").fetch_one(&pool).await.unwrap();
    assert_eq!(days, 5);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_in_words() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let range = json!({"start": 1_728_926_331_000_i64, "end": 1_728_926_931_000_i64});
    let now = SystemClock.now();
    for (method, body, code, word) in [
        ("SourceStats", json!({}), "invalid_argument", "255"),
        ("Series", json!({"source": "a", "timeRange": range}), "out_of_range", "kept since"),
        (
            "Series",
            json!({"source": "a", "timeRange": range, "step": "STEP_MINUTE"}),
            "invalid_argument",
            "need a step of 5m or more",
        ),
        ("Series", json!({"timeRange": {"start": 0}}), "invalid_argument", "too many steps"),
        ("Series", json!({}), "invalid_argument", "missing"),
        ("TopSources", json!({"timeRange": {"start": now / WINDOW * WINDOW + 1}}), "invalid_argument", "300000"),
        ("TopSources", json!({"limit": 5_000}), "invalid_argument", "1000"),
    ] {
        let (_, answer) = pingd.ask(&format!("SourceService/{method}"), &body).await.unwrap();
        assert_eq!(answer["code"], code, "{method} {body}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(word), "{answer} should contain {word}");
    }
}

#[tokio::test]
async fn a_server_that_takes_and_one_that_answers() {
    let (parts, all, _processor) = pipeline().await;
    let roles = ["ingest", "query"].map(|role| ["--role", role]);
    let (ingest, query) = tokio::join!(Pingd::server_with(&parts, &roles[0]), Pingd::server_with(&parts, &roles[1]));
    ingest.record("example.com", "failed", 0).await;
    becomes(&query, "example.com", "negative").await;
    query.wait_for_count(1).await;
    all.wait_for_count(1).await;
    for (server, method, body, word) in [
        (&query, "EventService/Record", json!({}), "--role query"),
        (&query, "PingService/Ping", json!({}), "--role query"),
        (&ingest, "PingService/PingCount", json!({}), "--role ingest"),
        (&ingest, "SourceService/GetStatus", json!({"source": "a"}), "--role ingest"),
    ] {
        let (status, answer) = server.ask(method, &body).await.unwrap();
        assert_eq!((status, &answer["code"]), (400, &json!("failed_precondition")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(word), "{answer} should contain {word}");
    }
    let pool = sqlx::PgPool::connect(&parts.postgres.url()).await.unwrap();
    let writers: i64 = sqlx::query_scalar("SELECT count(*) FROM writers WHERE open").fetch_one(&pool).await.unwrap();
    assert_eq!(writers, 2, "one lane per server that accepts events");
}
