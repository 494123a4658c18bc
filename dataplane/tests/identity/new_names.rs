//! An attacker with valid credentials who invents sources and kinds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    policy::PolicyFile,
    processes::{Pingd, TIMEOUT},
    quotas::{policy, send_all},
    scopes::ask,
};

const QUOTA: &str = "- {name: names, callers: [\"token:a\"], newSourcesPerDay: 50, newKindsPerDay: 80}";

async fn record(pingd: &Pingd, token: &str, source: &str, kind: &str) -> (u16, Value) {
    ask(pingd, "EventService/Record", token, json!({"source": source, "kind": kind})).await
}

/// The number of sources in the views.
async fn sources(pingd: &Pingd) -> usize {
    let (status, answer) = ask(pingd, "SourceService/TopSources", "t-all", json!({"limit": 1000})).await;
    assert_eq!(status, 200, "{answer}");
    answer["sources"].as_array().map_or(0, Vec::len)
}

/// Waits until the views are built: until then no name is new.
pub(crate) async fn built(pingd: &Pingd) {
    assert_eq!(record(pingd, "t-all", "known", "").await.0, 200);
    let started = Instant::now();
    while sources(pingd).await == 0 {
        assert!(started.elapsed() < TIMEOUT);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn new_sources_are_limited_per_day_also_after_a_restart_and_known_ones_are_not() {
    let (file, data) = (PolicyFile::new(&policy(QUOTA)), tempfile::tempdir().unwrap());
    let (path, folder) = (file.path(), data.path().to_str().unwrap().to_owned());
    let mut pingd = Pingd::dev(&["--data", &folder, "--access-policy", path.to_str().unwrap()]).await;
    built(&pingd).await;
    for number in 0..50 {
        let (status, answer) = record(&pingd, "t-a", &format!("s{number}"), "").await;
        assert_eq!(status, 200, "{number}: {answer}");
    }
    for _ in 0..2 {
        let (status, answer) = record(&pingd, "t-a", "one-more", "").await;
        assert_eq!((status, &answer["code"]), (429, &json!("resource_exhausted")), "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with("quota \"names\" allows 50 new sources per day (UTC)"), "{message}");
        for known in ["s0", "s49", "known"] {
            assert_eq!(record(&pingd, "t-a", known, "").await.0, 200, "{known}");
        }
        pingd.kill_9().await;
        pingd.restart();
        pingd.wait_ready().await;
    }
    assert_eq!(record(&pingd, "t-all", "one-more", "").await.0, 200, "other callers are not limited");
}

#[tokio::test]
async fn new_kinds_of_a_source_are_limited_and_a_batch_is_refused_as_a_whole() {
    let file = PolicyFile::new(&policy(QUOTA));
    let pingd = Pingd::dev(&["--memory", "--access-policy", file.path().to_str().unwrap()]).await;
    built(&pingd).await;
    let batch = |from: usize, to: usize| {
        let event = |number: usize| json!({"source": "s", "kind": format!("k{number}")});
        json!({"events": (from..to).map(event).collect::<Vec<_>>()})
    };
    let send = async |from, to| ask(&pingd, "EventService/RecordBatch", "t-a", batch(from, to)).await;
    assert_eq!(send(0, 60).await.0, 200);
    let (status, answer) = send(0, 81).await;
    assert_eq!(status, 429, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("80 new kinds per day"), "{answer}");
    assert_eq!(send(0, 80).await.0, 200, "the refused batch took nothing, and known kinds are free");
    assert_eq!(send(79, 81).await.0, 429);
    assert_eq!(send(100, 181).await.0, 400, "it would not fit on any day");
}

#[tokio::test]
async fn a_flood_of_new_sources_needs_no_memory_and_leaves_no_rows() {
    let file = PolicyFile::new(&policy(QUOTA));
    let pingd = Pingd::dev(&["--memory", "--access-policy", file.path().to_str().unwrap()]).await;
    built(&pingd).await;
    let mut before = 0;
    for round in 0..12_u32 {
        let events = |batch: u32| {
            let event = |number| json!({"source": format!("attack-{round}-{batch}-{number}-{}", "x".repeat(200))});
            json!({"events": (0..40_u32).map(event).collect::<Vec<_>>()})
        };
        let statuses = send_all(&pingd, "EventService/RecordBatch", (0..50).map(events)).await;
        assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        if round == 1 {
            before = pingd.peak_memory();
        }
    }
    let grown = pingd.peak_memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for 20,000 more sources");
    assert_eq!(record(&pingd, "t-a", "known", "").await.0, 200);
    sleep(Duration::from_secs(1)).await;
    let sources = sources(&pingd).await;
    assert!((2..=51).contains(&sources), "{sources} sources");
}
