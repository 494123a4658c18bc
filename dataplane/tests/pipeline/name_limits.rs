//! Limits of names that hold without an access policy: a caller who invents names gets an error, and known names are still counted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::processes::{Pingd, TIMEOUT};

async fn record(pingd: &Pingd, source: &str, kind: &str) -> (u16, Value) {
    pingd.ask("EventService/Record", &json!({"source": source, "kind": kind})).await.unwrap()
}

/// Waits until the views have this many sources.
async fn wait_for_sources(pingd: &Pingd, expected: usize) {
    let started = Instant::now();
    loop {
        let (status, answer) = pingd.ask("SourceService/TopSources", &json!({"limit": 1_000})).await.unwrap();
        let found = answer["sources"].as_array().map_or(0, Vec::len);
        if status == 200 && found >= expected {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "{found} sources: {answer}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn beyond_the_largest_number_of_sources_new_ones_are_refused_and_known_ones_counted() {
    let data = tempfile::tempdir().unwrap();
    let mut pingd = Pingd::dev(&["--data", data.path().to_str().unwrap(), "--max-sources", "20"]).await;
    for number in 0..20 {
        assert_eq!(record(&pingd, &format!("s{number}"), "").await.0, 200);
    }
    wait_for_sources(&pingd, 20).await;
    // The number of sources is estimated at the start, and then every few seconds.
    pingd.kill_9().await;
    pingd.restart();
    pingd.wait_ready().await;
    let started = Instant::now();
    let (mut number, mut refused) = (20, (200, Value::Null));
    while refused.0 == 200 {
        assert!(started.elapsed() < TIMEOUT, "{number} sources");
        refused = record(&pingd, &format!("s{number}"), "").await;
        number += 1;
        sleep(Duration::from_millis(100)).await;
    }
    let (status, answer) = refused;
    assert_eq!((status, &answer["code"]), (429, &json!("resource_exhausted")), "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.starts_with("there are 20 sources or more, which is the limit, and the source is new"),
        "{message}"
    );
    assert!(message.ends_with("raise --max-sources of the server"), "{message}");
    assert_eq!(record(&pingd, "s7", "").await.0, 200, "it is known");
    let batch = json!({"events": [{"source": "s1"}, {"source": "invented"}]});
    assert_eq!(pingd.ask("EventService/RecordBatch", &batch).await.unwrap().0, 429, "a batch is refused as a whole");
    assert_eq!(pingd.metric("ping_quota_refused_names_total{limit=\"--max-sources\"}").await, 2.0);
}

#[tokio::test]
async fn new_names_of_kinds_are_limited_per_day_and_known_ones_are_not() {
    let pingd = Pingd::dev(&["--memory", "--new-kind-names-per-day", "10"]).await;
    assert_eq!(record(&pingd, "s", "").await.0, 200);
    wait_for_sources(&pingd, 1).await;
    for number in 0..10 {
        let (status, answer) = record(&pingd, &format!("s{number}"), &format!("k{number}")).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (status, answer) = record(&pingd, "s", "k10").await;
    assert_eq!((status, &answer["code"]), (429, &json!("resource_exhausted")), "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(message.starts_with("the server accepts 10 new kinds per day (UTC), and the kind is new"), "{message}");
    for known in ["k0", "k9", ""] {
        assert_eq!(record(&pingd, "another", known).await.0, 200, "{known}");
    }
    assert_eq!(pingd.metric("ping_quota_refused_names_total{limit=\"--new-kind-names-per-day\"}").await, 1.0);
}
