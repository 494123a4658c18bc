//! `pingd dev`: one process, no infrastructure.

use std::time::{Duration, Instant};

use ping_memory::SystemClock;
use ping_ports::Clock;
use serde_json::json;

use crate::processes::{EXAMPLE, Pingd};

#[tokio::test]
async fn three_pings_are_counted_within_a_second() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for _ in 0..3 {
        pingd.ping(json!({"timestamp_ms": EXAMPLE})).await;
    }
    pingd.wait_for_count(3).await;
    pingd.counts_within_a_second(3).await;
    let now = SystemClock.now();
    pingd.wait_for_audit(now).await;
    let (_, strong) = pingd.call("PingCount", &json!({"strong": true})).await.unwrap();
    assert!(strong.get("lastAuditMs").is_none(), "the database needs no audit: {strong}");
}

#[tokio::test]
async fn ids_from_before_the_events_that_are_kept_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let pingd = Pingd::dev(&["--data", folder.path().to_str().unwrap(), "--event-retention-days", "2"]).await;
    // Of 2024-10-14.
    let (old, other) = ("0192e3c2-7b1a-7cc0-8000-3a5b1c2d4e5f", "f47ac10b-58cc-4372-a567-0e02b2c3d479");
    let (status, refused) = pingd.ask("EventService/Record", &json!({"eventId": old})).await.unwrap();
    assert!(status == 400 && refused.to_string().contains("no longer kept"), "{refused}");
    let events = json!([{"eventId": other}, {"eventId": old}, {}]);
    let (status, recorded) = pingd.ask("EventService/RecordBatch", &json!({"events": events})).await.unwrap();
    assert_eq!((status, &recorded["accepted"]), (200, &json!("2")), "{recorded}");
    let refused = recorded["refused"].as_array().unwrap();
    assert_eq!((refused.len(), &refused[0]["index"], &refused[0]["code"]), (1, &json!(1), &json!("invalid_argument")));
    pingd.wait_for_count(2).await;
}

#[tokio::test]
async fn a_start_takes_less_than_a_second() {
    // Other tests share the two cores, so not every start is that fast.
    let mut took = Vec::new();
    while took.len() < 10 {
        let started = Instant::now();
        let _pingd = Pingd::dev(&["--memory"]).await;
        took.push(started.elapsed());
        if started.elapsed() < Duration::from_secs(1) {
            return;
        }
    }
    panic!("no start took less than a second: {took:?}");
}

#[tokio::test]
async fn the_file_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let mut pingd = Pingd::dev(&["--data", data]).await;
    for place in 0..50 {
        pingd.ping(json!({"timestampMs": EXAMPLE + place})).await;
    }
    pingd.kill_9().await;
    pingd.restart();
    pingd.wait_ready().await;
    pingd.wait_for_count(50).await;
    pingd.ping(json!({"timestampMs": EXAMPLE})).await;
    pingd.wait_for_count(51).await;
}

#[tokio::test]
async fn two_processes_on_one_file_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let _first = Pingd::dev(&["--data", data]).await;
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_pingd"))
        .args(["dev", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("another"), "{said}");
}

#[tokio::test]
async fn a_terminated_process_drains_and_exits_with_zero() {
    let mut pingd = Pingd::dev(&["--memory"]).await;
    pingd.ping(json!({})).await;
    assert_eq!(pingd.terminate().await, Some(0), "{}", pingd.log_tail());
}

#[tokio::test]
async fn ranges_are_half_open_and_to_the_millisecond() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for at in [EXAMPLE, EXAMPLE + 1, EXAMPLE + 60_000, EXAMPLE + 86_400_000] {
        pingd.ping(json!({"timestampMs": at.to_string()})).await;
    }
    for (start, end, expected) in [
        (EXAMPLE, EXAMPLE + 1, 1),
        (EXAMPLE, EXAMPLE + 2, 2),
        (EXAMPLE + 1, EXAMPLE + 60_000, 1),
        (EXAMPLE + 1, EXAMPLE + 60_001, 2),
        (0, 0, 4),
        (EXAMPLE + 2, 0, 2),
        (EXAMPLE, EXAMPLE, 0),
    ] {
        let (count, _) = pingd.count(json!({"timeRange": {"start": start, "end": end}})).await;
        assert_eq!(count, expected, "{start}..{end}");
    }
}

#[tokio::test]
async fn a_reader_can_wait_for_its_own_write() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for expected in 1..=20 {
        let (_, receipt) = pingd.call("Ping", &json!({"receipt": true})).await.unwrap();
        let (count, store) = pingd.count(json!({"after": receipt["token"]})).await;
        assert_eq!((count, store.as_str()), (expected, "STORE_CACHE"));
    }
    let (strong, store) = pingd.count(json!({"strong": true})).await;
    assert_eq!((strong, store.as_str()), (20, "STORE_DATABASE"));
}
