//! What callers see, and what the database has to do, while a part of the server stalls.

use std::time::{Duration, Instant};

use ping_memory::SystemClock;
use ping_ports::Clock;
use ping_testbed::Parts;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::{
    processes::{EXAMPLE, Pingd, TIMEOUT, pipeline},
    wire,
};

/// A deadline that ends long before the server itself gives up on its database.
const DEADLINE_MS: &str = "400";

/// Makes every statement that reads or writes one of `tables` wait, until the connection is closed.
async fn lock(parts: &Parts, tables: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&parts.postgres.superuser_url()).await.unwrap();
    sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
    let statement = format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE");
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_deadline_ends_every_call_while_the_store_stalls() {
    let (parts, server, _processor) = pipeline().await;
    server.ping(json!({"source": "a"})).await;
    server.wait_for_count(1).await;
    let stalled = lock(&parts, "events, writers, rollups, millisecond_counts, source_segments").await;
    for (method, body) in [
        ("PingService/Ping", json!({})),
        ("PingService/PingCount", json!({"strong": true})),
        ("PingService/PingCount", json!({"after": "999.0.1"})),
        ("EventService/Record", json!({"source": "a"})),
        ("EventService/RecordBatch", json!({"events": [{"source": "a"}]})),
        ("SourceService/SourceStats", json!({"source": "a"})),
        ("SourceService/TopSources", json!({})),
        ("SourceService/Series", json!({"step": "STEP_HOUR", "timeRange": {"start": SystemClock.now() - 7_200_000}})),
        ("SourceService/GetStatus", json!({"source": "b"})),
    ] {
        let (path, body) = (format!("/ping.v1.{method}"), body.to_string());
        let mut connection = wire::connect(&server.api, "127.0.0.1").await.unwrap();
        let headers = format!("Content-Type: application/json\r\nConnect-Timeout-Ms: {DEADLINE_MS}\r\n");
        let request = wire::request("POST", &path, &headers, body.as_bytes());
        let (status, text) = wire::exchange(&mut connection, &request).await;
        assert_eq!(status, 504, "{method} {body}: {text}");
        assert!(text.contains("deadline_exceeded"), "{method} {body}: {text}");
    }
    let timeout = format!("{DEADLINE_MS}m");
    let answer = wire::grpc(&server.api, "POST", "EventService/Record", &[("grpc-timeout", &timeout)], &[0; 5]).await;
    assert_eq!(answer, (200, "4".to_owned()), "by gRPC");
    stalled.close().await.unwrap();
    let (status, answer) = server.call("PingCount", &json!({"strong": true})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn one_recount_runs_however_often_callers_leave_and_ask_again() {
    let (parts, server, _processor) = pipeline().await;
    server.ping(json!({"timestampMs": EXAMPLE})).await;
    server.wait_for_count(1).await;
    // Counts do not read the rows of events.
    let stalled = lock(&parts, "events").await;
    let mut refused = 0;
    for _ in 0..20 {
        let url = format!("{}/ping.v1.AdminService/Verify", server.admin);
        let call = reqwest::Client::new().post(url).json(&json!({})).timeout(Duration::from_millis(200));
        // The caller of the recount that runs leaves without an answer.
        let Ok(answer) = call.send().await else { continue };
        assert_eq!(answer.status(), 429);
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["message"].as_str().unwrap().starts_with("a recount is running"), "{answer}");
        refused += 1;
    }
    assert_eq!(refused, 19);
    let mut connection = PgConnection::connect(&parts.postgres.superuser_url()).await.unwrap();
    let recounts = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%event_rows%'";
    let recounts: i64 = sqlx::query_scalar(recounts).fetch_one(&mut connection).await.unwrap();
    assert_eq!(recounts, 1);
    for _ in 0..20 {
        assert_eq!(server.count(json!({"strong": true})).await, (1, "STORE_DATABASE".into()));
    }
    stalled.close().await.unwrap();
    let started = Instant::now();
    loop {
        let (status, proof) = server.verify().await;
        if status == 200 {
            assert_eq!(proof["exact"], json!(true), "{proof}");
            return;
        }
        assert!(status == 429 && started.elapsed() < TIMEOUT, "{status} {proof}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// How many commands the cache has run.
async fn cache_commands(parts: &Parts) -> u64 {
    let client = redis::Client::open(parts.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
    let commands = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
    commands.trim().parse().unwrap()
}

/// One poll every 5 ms asks for all of them.
#[tokio::test]
async fn forged_tokens_cost_the_cache_no_more_than_one_poll() {
    let (parts, server, _processor) = pipeline().await;
    let before = cache_commands(&parts).await;
    let started = Instant::now();
    wait_for_forged_tokens(&server, 200).await;
    let polls = u64::try_from(started.elapsed().as_millis()).unwrap() / 5;
    let commands = cache_commands(&parts).await - before;
    // Each caller asks once, and so does each poll: MULTI, two reads, EXEC. Besides, server and processor read and write the cache all the time:
    // below 500 commands a second.
    let allowed = 4 * (200 + polls) + 500 * (1 + started.elapsed().as_secs());
    assert!(commands <= allowed, "{commands} commands in {:?}, {allowed} allowed", started.elapsed());
}

async fn wait_for_forged_tokens(server: &Pingd, callers: usize) {
    let http = reqwest::Client::new();
    let calls = (0..callers).map(async |seq| {
        let url = format!("{}/ping.v1.PingService/PingCount", server.api);
        let call = http.post(url).header("connect-timeout-ms", "3000");
        call.json(&json!({"after": format!("999.0.{}", seq + 1)})).send().await.unwrap().status()
    });
    for status in futures::future::join_all(calls).await {
        assert_eq!(status, 504);
    }
}
