//! Who may take back a negative status, and what is left of it.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    policy::{PolicyFile, call, token},
    processes::{Pingd, TIMEOUT},
};

/// `ops` administers the sources `orders-*`, for the kind `failed` only. `sender` may send and read everything.
async fn server() -> (Pingd, PolicyFile) {
    let tokens = [token("ops", "t-ops"), token("mail", "t-mail"), token("sender", "t-sender")].join(", ");
    let policy = PolicyFile::new(&format!(
        "tokens: [{tokens}]
rules:
- {{callers: [\"token:ops\"], permissions: [admin], sources: [\"orders-*\"], kinds: [failed]}}
- {{callers: [\"token:mail\"], permissions: [admin], kinds: [bounced]}}
- {{callers: [\"token:sender\"], permissions: [ingest, read]}}
"
    ));
    let path = policy.path();
    let pingd = Pingd::dev(&["--memory", "--log-format", "json", "--access-policy", path.to_str().unwrap()]).await;
    (pingd, policy)
}

async fn ask(pingd: &Pingd, method: &str, body: Value) -> (u16, Value) {
    call(&format!("{}/ping.v1.{method}", pingd.api), Some("t-sender"), &body).await
}

async fn revoke(pingd: &Pingd, token: Option<&str>, body: Value) -> (u16, Value) {
    call(&format!("{}/ping.v1.AdminService/RevokeStatus", pingd.admin), token, &body).await
}

async fn becomes(pingd: &Pingd, source: &str, verdict: &str) {
    let started = Instant::now();
    loop {
        let (_, answer) = ask(pingd, "SourceService/GetStatus", json!({"source": source})).await;
        if answer["verdict"] == verdict {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "{answer}, not {verdict}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn fail(pingd: &Pingd, source: &str) {
    let (status, answer) = ask(pingd, "EventService/Record", json!({"source": source, "kind": "failed"})).await;
    assert_eq!(status, 200, "{answer}");
    becomes(pingd, source, "VERDICT_NEGATIVE").await;
}

#[tokio::test]
async fn a_status_is_revoked_by_administrators_of_its_source_only_and_the_audit_log_says_who_and_why() {
    let (pingd, _policy) = server().await;
    for source in ["orders-1", "mail-1"] {
        fail(&pingd, source).await;
    }
    let body = json!({"source": "orders-1", "reason": "sent by mistake"});
    for (token, status) in [(None, 401), (Some("t-sender"), 403), (Some("t-mail"), 403)] {
        assert_eq!(revoke(&pingd, token, body.clone()).await.0, status, "{token:?}");
    }
    let (status, answer) = revoke(&pingd, Some("t-ops"), json!({"source": "mail-1"})).await;
    let message = answer["message"].as_str().unwrap();
    assert!(status == 403 && message.contains("\"admin\" for source \"mail-1\" and kind \"failed\""), "{answer}");
    becomes(&pingd, "orders-1", "VERDICT_NEGATIVE").await;

    let (status, answer) = revoke(&pingd, Some("t-ops"), body).await;
    assert_eq!((status, &answer["revokedEvents"]), (200, &json!("1")), "{answer}");
    becomes(&pingd, "orders-1", "VERDICT_UNKNOWN").await;
    becomes(&pingd, "mail-1", "VERDICT_NEGATIVE").await;

    let log = pingd.log();
    let audited: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = audited.iter().find(|line| line["message"] == "status revoked").unwrap_or_else(|| panic!("{log}"));
    let expected = json!({"target": "audit", "caller": "token:ops", "source": "orders-1", "kind": "failed", "events": 1,
                          "reason": "sent by mistake", "event_id": answer["eventId"]});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&line[field], value, "{field} of {line}");
    }
    fail(&pingd, "orders-1").await;
}

#[tokio::test]
async fn no_caller_records_a_revocation_as_an_event() {
    let (pingd, _policy) = server().await;
    fail(&pingd, "orders-1").await;
    let event = json!({"source": "orders-1", "kind": "~revoked:failed:1"});
    for method in ["EventService/Record", "PingService/Ping"] {
        let (status, answer) = ask(&pingd, method, event.clone()).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")), "{method}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains("RevokeStatus"), "{answer}");
    }
    let (_, answer) = ask(&pingd, "EventService/RecordBatch", json!({"events": [event]})).await;
    assert_eq!(
        (&answer["accepted"], &answer["refused"][0]["code"]),
        (&json!("0"), &json!("invalid_argument")),
        "{answer}"
    );
    becomes(&pingd, "orders-1", "VERDICT_NEGATIVE").await;
}

#[tokio::test]
async fn an_invalid_revocation_is_refused_in_words() {
    let (pingd, _policy) = server().await;
    for (body, words) in [
        (json!({"source": "orders-1", "reason": "x".repeat(256)}), "reason must be at most 255 bytes"),
        (json!({"source": "orders-1", "reason": "a\nb"}), "without control characters"),
        (json!({"source": "orders-1"}), "is not negative, so there is nothing to revoke"),
        (json!({"source": format!("orders-{}", "x".repeat(255))}), "source must have 1 to 255 bytes"),
    ] {
        let (status, answer) = revoke(&pingd, Some("t-ops"), body.clone()).await;
        assert!(status == 400 && answer["message"].as_str().unwrap().contains(words), "{body}: {answer}");
    }
}

#[tokio::test]
async fn dead_letters_show_events_of_all_sources_so_administrators_of_some_are_refused() {
    let (pingd, _policy) = server().await;
    let url = format!("{}/ping.v1.AdminService/DeadLetters", pingd.admin);
    let (status, answer) = call(&url, Some("t-ops"), &json!({})).await;
    assert_eq!((status, &answer["code"]), (403, &json!("permission_denied")), "{answer}");
    let api = format!("{}/ping.v1.AdminService/DeadLetters", pingd.api);
    assert_eq!(call(&api, Some("t-ops"), &json!({})).await.0, 404, "the admin port only");
}
