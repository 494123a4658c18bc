//! Statuses of sources, from outside: with the default rule and with that of the example for mail domains.

use std::time::Instant;

use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::processes::{Pingd, TIMEOUT, pipeline};

/// Waits until the status of `source` has the label `status`; returns how long it took.
pub async fn becomes(server: &Pingd, source: &str, status: &str) -> Duration {
    let started = Instant::now();
    loop {
        let answer = server.query("GetStatus", json!({"source": source})).await;
        if answer["status"] == status {
            return started.elapsed();
        }
        assert!(started.elapsed() < TIMEOUT, "{answer}, not {status}\n{}", server.log_tail());
        sleep(Duration::from_millis(5)).await;
    }
}

/// A status rule: the kinds whose thresholds are 1 and 1000, and the labels.
struct Rule {
    negative_kind: &'static str,
    positive_kind: &'static str,
    negative: &'static str,
    positive: &'static str,
}

/// The default rule.
const NEUTRAL: Rule =
    Rule { negative_kind: "failed", positive_kind: "succeeded", negative: "negative", positive: "positive" };

/// The rule of the example for mail domains; see `MAIL_DOMAIN_FLAGS`.
const MAIL_DOMAINS: Rule =
    Rule { negative_kind: "bounced", positive_kind: "delivered", negative: "not catch-all", positive: "catch-all" };

const MAIL_DOMAIN_FLAGS: [&str; 6] = [
    "--status-negative-when",
    "bounced=1",
    "--status-positive-when",
    "delivered=1000",
    "--status-labels",
    "not catch-all,catch-all,unknown",
];

impl Rule {
    /// Sends `count` events of the positive kind.
    async fn support(&self, server: &Pingd, source: &str, count: usize) {
        let events = vec![json!({"source": source, "kind": self.positive_kind}); count];
        let (status, answer) = server.ask("EventService/RecordBatch", &json!({"events": events})).await.unwrap();
        assert_eq!((status, &answer["accepted"]), (200, &json!(count.to_string())), "{answer}");
    }
}

/// The 1000th event changes a status within a second. Other tests share the two cores, so not every attempt is that fast.
async fn changes_within_a_second(server: &Pingd, rule: &Rule) {
    let mut waited = Vec::new();
    while waited.len() < 10 {
        let source = format!("changes-{}.example", waited.len());
        rule.support(server, &source, 999).await;
        server.wait_for_source(&source, 999).await;
        assert_eq!(server.query("GetStatus", json!({"source": source})).await["status"], "unknown");
        rule.support(server, &source, 1).await;
        waited.push(becomes(server, &source, rule.positive).await);
        if waited.last() < Some(&Duration::from_secs(1)) {
            println!("the 1000th event changed the status after {waited:?}");
            return;
        }
    }
    panic!("no status changed within a second: {waited:?}");
}

async fn statuses_follow_the_rule(server: &Pingd, rule: &Rule) {
    changes_within_a_second(server, rule).await;
    becomes(server, "example.com", "unknown").await;
    rule.support(server, "example.com", 999).await;
    server.wait_for_source("example.com", 999).await;
    let answer = server.query("GetStatus", json!({"source": "example.com"})).await;
    assert_eq!((&answer["verdict"], &answer["final"]), (&json!("VERDICT_UNKNOWN"), &json!(false)), "{answer}");
    rule.support(server, "example.com", 1).await;
    let positive = becomes(server, "example.com", rule.positive).await;
    server.record("example.com", rule.negative_kind, 0).await;
    let negative = becomes(server, "example.com", rule.negative).await;
    println!("the status became positive after {positive:?}, negative after {negative:?}");
    rule.support(server, "example.com", 2_000).await;
    server.wait_for_source("example.com", 3_001).await;
    // The first reader after a change reads the store, and caches what it finds.
    let started = Instant::now();
    loop {
        let answer = server.query("GetStatus", json!({"source": "example.com"})).await;
        assert_eq!((&answer["status"], &answer["final"]), (&json!(rule.negative), &json!(true)), "{answer}");
        assert_eq!(answer["verdict"], "VERDICT_NEGATIVE", "{answer}");
        if answer["store"] == "STORE_CACHE" {
            break;
        }
        assert!(started.elapsed() < TIMEOUT, "{answer}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A wrong event does not make a status negative forever. The events stay, and later ones count.
async fn a_negative_status_can_be_revoked(server: &Pingd, rule: &Rule) {
    let source = json!({"source": "revoked.example"});
    let revoke = async || server.administer("RevokeStatus", &source).await;
    let (status, answer) = revoke().await;
    assert_eq!((status, &answer["code"]), (400, &json!("failed_precondition")), "{answer}");
    rule.support(server, "revoked.example", 1_000).await;
    for total in [1, 2] {
        server.record("revoked.example", rule.negative_kind, 0).await;
        becomes(server, "revoked.example", rule.negative).await;
        let (status, answer) = revoke().await;
        assert_eq!((status, &answer["revokedEvents"]), (200, &json!(total.to_string())), "{answer}");
        becomes(server, "revoked.example", rule.positive).await;
        let (status, answer) = revoke().await;
        assert_eq!((status, &answer["code"]), (400, &json!("failed_precondition")), "{answer}");
    }
    let status = server.query("GetStatus", source.clone()).await;
    assert_eq!((&status["final"], &status["negativeEvents"]), (&json!(false), &json!("0")), "{status}");
    // Nothing is uncounted, and the revocations can be seen.
    let stats = server.query("SourceStats", source).await;
    let kind = |kind: &str| {
        stats["kinds"].as_array().unwrap().iter().find(|stats| stats["kind"] == kind).unwrap()["count"].clone()
    };
    assert_eq!((&stats["count"], kind(rule.negative_kind)), (&json!("1004"), json!("2")), "{stats}");
    for revoked in [1, 2] {
        assert_eq!(kind(&format!("~revoked:{}:{revoked}", rule.negative_kind)), "1", "{stats}");
    }
}

#[tokio::test]
async fn a_negative_status_can_be_revoked_in_memory_and_in_sqlite() {
    a_negative_status_can_be_revoked(&Pingd::dev(&["--memory"]).await, &NEUTRAL).await;
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", folder.path().to_str().unwrap()];
    let mut pingd = Pingd::dev(&[&data[..], &MAIL_DOMAIN_FLAGS[..]].concat()).await;
    a_negative_status_can_be_revoked(&pingd, &MAIL_DOMAINS).await;
    // The log and the cache start empty: the views were built from the events.
    pingd.kill_9().await;
    pingd.restart();
    pingd.wait_ready().await;
    becomes(&pingd, "revoked.example", MAIL_DOMAINS.positive).await;
}

#[tokio::test]
async fn statuses_follow_the_rule_in_memory() {
    statuses_follow_the_rule(&Pingd::dev(&["--memory"]).await, &NEUTRAL).await;
    let mail_domains = Pingd::dev(&[&["--memory"], &MAIL_DOMAIN_FLAGS[..]].concat()).await;
    statuses_follow_the_rule(&mail_domains, &MAIL_DOMAINS).await;
    let flags =
        ["--status-negative-when", "spam=2", "--status-positive-when", "ping=1", "--status-labels", "bad,good,new"];
    let pingd = Pingd::dev(&[&["--memory"], &flags[..]].concat()).await;
    pingd.record("a", "spam", 0).await;
    pingd.wait_for_source("a", 1).await;
    becomes(&pingd, "a", "new").await;
    pingd.record("a", "", 0).await;
    becomes(&pingd, "a", "good").await;
    pingd.record("a", "spam", 0).await;
    becomes(&pingd, "a", "bad").await;
}

#[tokio::test]
async fn statuses_follow_the_rule_on_real_parts_and_without_the_cache() {
    let (mut parts, server, _processor) = pipeline().await;
    statuses_follow_the_rule(&server, &NEUTRAL).await;
    a_negative_status_can_be_revoked(&server, &NEUTRAL).await;
    parts.redis.kill_9().await.unwrap();
    for (source, status) in [("example.com", "negative"), ("revoked.example", "positive")] {
        let answer = server.query("GetStatus", json!({"source": source})).await;
        assert_eq!((&answer["status"], &answer["store"]), (&json!(status), &json!("STORE_DATABASE")));
    }
    parts.redis.restart_empty().await.unwrap();
    NEUTRAL.support(&server, "other.com", 1_000).await;
    becomes(&server, "other.com", "positive").await;
}
