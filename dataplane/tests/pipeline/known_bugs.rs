//! One test per bug of the existing system with this design. (The simulation also covers retries, idle hours and upgrades.)

use std::time::{Duration, Instant};

use ping_memory::SystemClock;
use ping_ports::Clock;
use serde_json::json;
use tokio::time::sleep;

use crate::processes::{EXAMPLE, Pingd, TIMEOUT, pipeline};

#[tokio::test]
async fn retry_after_a_timeout_counts_once() {
    let (_parts, mut server, _processor) = pipeline().await;
    let ids: Vec<_> = (0..100).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    // The caller disconnects before the response, the server is killed halfway, and the caller retries.
    for (place, id) in ids.iter().enumerate() {
        let body = json!({"timestampMs": EXAMPLE, "eventId": id});
        let _ = tokio::time::timeout(Duration::from_micros(700), server.call("Ping", &body)).await;
        if place == 50 {
            server.kill_9().await;
            server.restart();
            server.wait_ready().await;
        }
    }
    for id in &ids {
        server.ping(json!({"timestampMs": EXAMPLE, "eventId": id})).await;
    }
    server.wait_for_count(100).await;
}

#[tokio::test]
async fn total_does_not_restart_after_an_idle_hour() {
    let (parts, server, _processor) = pipeline().await;
    for _ in 0..5 {
        server.ping(json!({"timestampMs": EXAMPLE})).await;
    }
    server.wait_for_count(5).await;
    // In the existing system the hash expires after an hour. Here the worst case is an empty cache, which is rebuilt.
    let client = redis::Client::open(parts.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let ttl: i64 = redis::cmd("TTL").arg("ping:counters").query_async(&mut connection).await.unwrap();
    assert_eq!(ttl, -1, "the counters never expire");
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    server.ping(json!({"timestampMs": EXAMPLE})).await;
    server.wait_for_count(6).await;
}

#[tokio::test]
async fn an_upgrade_does_not_recount_the_topic() {
    let (parts, server, mut processor) = pipeline().await;
    // Count one event first: otherwise the cache could be built from Postgres after all events, without reading a record.
    server.ping(json!({"timestampMs": EXAMPLE})).await;
    server.wait_for_count(1).await;
    for _ in 0..300 {
        server.ping(json!({"timestampMs": EXAMPLE})).await;
    }
    server.wait_for_count(301).await;
    // A new version with a new consumer group: the existing system then reads the topic from the beginning.
    processor.terminate().await;
    let upgraded = Pingd::processor(&parts, &["--kafka-group", "ping-processor-v2"]).await;
    server.ping(json!({"timestampMs": EXAMPLE})).await;
    server.wait_for_count(302).await;
    // Records may be read again after a reassignment, never from the beginning.
    let read = upgraded.metric("ping_count_records_total").await;
    assert!((1.0..300.0).contains(&read), "{read} records\n{}\n{}", processor.log_tail(), upgraded.log_tail());
}

#[tokio::test]
async fn a_count_is_not_stale_until_the_next_event() {
    let (_parts, server, _processor) = pipeline().await;
    server.ping(json!({"timestampMs": EXAMPLE})).await;
    server.wait_for_count(1).await;
    // Each event is isolated: none follows until it is counted.
    server.counts_within_a_second(1).await;
    let as_of = async || {
        let (_, answer) = server.call("PingCount", &json!({})).await.unwrap();
        answer["asOfMs"].as_str().unwrap().parse::<i64>().unwrap()
    };
    let (first, started) = (as_of().await, Instant::now());
    loop {
        let (last, lag) = (as_of().await, SystemClock.now() - as_of().await);
        if last > first && lag < 1_000 {
            break;
        }
        assert!(
            started.elapsed() < TIMEOUT,
            "as_of went from {first} to {last} without events, {lag} ms behind the clock"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn no_row_without_event() {
    let (mut parts, mut server, _processor) = pipeline().await;
    server.ping(json!({})).await;
    parts.kafka.kill_9().await.unwrap();
    for _ in 0..10 {
        server.ping(json!({})).await;
    }
    // The server is killed before it can publish the events; its successor relays them.
    server.kill_9().await;
    parts.kafka.restart().await.unwrap();
    server.restart();
    server.wait_ready().await;
    server.wait_for_count(11).await;
}

#[tokio::test]
async fn no_event_without_row() {
    let (mut parts, server, _processor) = pipeline().await;
    server.ping(json!({})).await;
    server.wait_for_count(1).await;
    parts.postgres.kill_9().await.unwrap();
    for _ in 0..3 {
        let (status, _) = server.call("Ping", &json!({})).await.unwrap();
        assert_eq!(status, 503);
    }
    parts.postgres.restart().await.unwrap();
    server.wait_ready().await;
    let (rows, _) = server.count(json!({"strong": true})).await;
    server.wait_for_count(rows).await;
    let (_, proof) = server.verify().await;
    assert_eq!(proof["exact"], true, "{proof}");
}

#[tokio::test]
async fn the_time_range_is_not_ignored() {
    let (_parts, server, _processor) = pipeline().await;
    for place in 0..10 {
        server.ping(json!({"timestampMs": EXAMPLE + place * 60_000})).await;
    }
    let range = |from: i64, to: i64| json!({"timeRange": {"start": EXAMPLE + from, "end": EXAMPLE + to}});
    assert_eq!(server.count(range(0, 60_000)).await.0, 1);
    assert_eq!(server.count(range(1, 180_001)).await.0, 3);
    assert_eq!(server.count(range(-1_000, 0)).await.0, 0);
    assert_eq!(server.count(json!({"timeRange": {"start": 0, "end": 0}})).await.0, 10);
}

#[tokio::test]
async fn the_fallback_is_not_a_full_scan() {
    let (mut parts, server, mut processor) = pipeline().await;
    for _ in 0..5 {
        server.ping(json!({})).await;
    }
    server.wait_for_count(5).await;
    parts.redis.kill_9().await.unwrap();
    // A processor reads the rows when it starts, and its backends report that up to ten seconds later, or when they end.
    processor.kill_9().await;
    let pool = sqlx::PgPool::connect(&parts.postgres.superuser_url()).await.unwrap();
    let scans = async || -> i64 {
        // A backend reports its statistics after being idle for a while.
        sleep(Duration::from_millis(1_500)).await;
        let scans = "SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'events'";
        sqlx::query_scalar(scans).fetch_one(&pool).await.unwrap()
    };
    let before = scans().await;
    for _ in 0..20 {
        assert_eq!(server.count(json!({})).await, (5, "STORE_DATABASE".into()));
    }
    assert_eq!(scans().await, before, "the rows were not read");
}
