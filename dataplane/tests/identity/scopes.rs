//! What a caller with valid credentials may not do.

use serde_json::{Value, json};

use crate::{
    policy::{PolicyFile, call, token},
    processes::Pingd,
};

/// `orders` may send events of `orders-*` and kind `ping`, and read their sources. `agent` may send its own. `all` may do both.
pub async fn server() -> (Pingd, PolicyFile) {
    let tokens = [token("orders", "t-orders"), token("agent", "t-agent"), token("all", "t-all")].join(", ");
    let policy = PolicyFile::new(&format!(
        "tokens: [{tokens}]
rules:
- {{callers: [\"token:orders\"], permissions: [ingest], sources: [\"orders-*\"], kinds: [ping]}}
- {{callers: [\"token:orders\"], permissions: [read], sources: [\"orders-*\"]}}
- {{callers: [\"token:agent\"], permissions: [ingest, read], bindSource: true}}
- {{callers: [\"token:all\"], permissions: [ingest, read]}}
"
    ));
    let path = policy.path();
    let pingd = Pingd::dev(&["--memory", "--access-policy", path.to_str().unwrap()]).await;
    (pingd, policy)
}

pub async fn ask(pingd: &Pingd, method: &str, token: &str, body: Value) -> (u16, Value) {
    call(&format!("{}/ping.v1.{method}", pingd.api), Some(token), &body).await
}

pub async fn count(pingd: &Pingd) -> Value {
    ask(pingd, "PingService/PingCount", "t-all", json!({"strong": true})).await.1["pingCount"].clone()
}

#[tokio::test]
async fn events_of_other_sources_and_kinds_are_refused() {
    let (pingd, _policy) = server().await;
    for method in ["PingService/Ping", "EventService/Record"] {
        for (token, body, status) in [
            ("t-orders", json!({"source": "orders-1"}), 200),
            ("t-orders", json!({"source": "orders-1", "kind": "failed"}), 403),
            ("t-orders", json!({"source": "mail-1"}), 403),
            ("t-orders", json!({"source": "xorders-1"}), 403),
            ("t-orders", json!({}), 403),
            ("t-agent", json!({"source": "agent", "kind": "failed"}), 200),
            ("t-agent", json!({"source": "agent2"}), 403),
            ("t-agent", json!({}), 403),
        ] {
            let (found, answer) = ask(&pingd, method, token, body.clone()).await;
            assert_eq!(found, status, "{method} {token} {body}: {answer}");
        }
    }
    assert_eq!(count(&pingd).await, "4");
}

#[tokio::test]
async fn a_batch_with_one_forbidden_event_is_refused_as_a_whole() {
    let (pingd, _policy) = server().await;
    let batch = json!({"events": [{"source": "orders-1"}, {"source": "orders-2"}, {"source": "mail-1"}]});
    let (status, answer) = ask(&pingd, "EventService/RecordBatch", "t-orders", batch).await;
    let message = answer["message"].as_str().unwrap();
    assert_eq!((status, &answer["code"]), (403, &json!("permission_denied")), "{answer}");
    for words in
        ["nothing of the batch was recorded", "event 2", "source \"mail-1\"", "rule 1 allows it for sources orders-*"]
    {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(count(&pingd).await, "0");
}

#[tokio::test]
async fn cloud_events_need_the_same_permissions() {
    let (pingd, _policy) = server().await;
    let send = async |token: Option<&str>, kind: &str, events: Value| {
        let request = reqwest::Client::new().post(format!("{}/cloudevents", pingd.api)).header("content-type", kind);
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.body(events.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()["code"].clone())
    };
    let event = |source: &str, kind: &str| json!({"specversion": "1.0", "id": "1", "source": source, "type": kind});
    let (one, batch) = ("application/cloudevents+json", "application/cloudevents-batch+json");
    assert_eq!(send(None, one, event("orders-1", "ping")).await, (401, json!("unauthenticated")));
    assert_eq!(send(Some("t-orders"), one, event("orders-1", "failed")).await, (403, json!("permission_denied")));
    let two = json!([event("orders-1", "ping"), event("mail-1", "ping")]);
    assert_eq!(send(Some("t-orders"), batch, two).await, (403, json!("permission_denied")));
    assert_eq!(count(&pingd).await, "0");
    assert_eq!(send(Some("t-orders"), batch, json!([event("orders-1", "ping")])).await, (200, Value::Null));
    assert_eq!(count(&pingd).await, "1");
}

#[tokio::test]
async fn only_the_sources_of_a_rule_can_be_read_and_totals_need_all_of_them() {
    let (pingd, _policy) = server().await;
    for source in ["orders-1", "mail-1"] {
        assert_eq!(ask(&pingd, "PingService/Ping", "t-all", json!({"source": source})).await.0, 200);
    }
    let start = json!({"start": "1000000000000"});
    for (token, own, other) in [("t-orders", "orders-1", "mail-1"), ("t-agent", "agent", "orders-1")] {
        for method in ["SourceStats", "GetStatus"] {
            let method = format!("SourceService/{method}");
            assert_eq!(ask(&pingd, &method, token, json!({"source": own})).await.0, 200, "{method} {token}");
            assert_eq!(ask(&pingd, &method, token, json!({"source": other})).await.0, 403, "{method} {token}");
        }
        let series = |source: &str| json!({"source": source, "timeRange": start, "step": "STEP_DAY"});
        assert_ne!(ask(&pingd, "SourceService/Series", token, series(own)).await.0, 403, "{token}");
        assert_eq!(ask(&pingd, "SourceService/Series", token, series(other)).await.0, 403, "{token}");
        for (method, body) in [
            ("PingService/PingCount", json!({})),
            ("SourceService/TopSources", json!({})),
            ("SourceService/Series", json!({"timeRange": start})),
        ] {
            let (status, answer) = ask(&pingd, method, token, body).await;
            assert_eq!(status, 403, "{method} {token}: {answer}");
            assert!(answer["message"].as_str().unwrap().contains("all sources (\"*\")"), "{answer}");
        }
    }
    assert_eq!(ask(&pingd, "SourceService/TopSources", "t-all", json!({})).await.0, 200);
}

#[tokio::test]
async fn a_shared_cache_does_not_keep_what_not_everyone_may_read() {
    let (pingd, _policy) = server().await;
    let url = format!("{}/ping.v1.PingService/PingCount?connect=v1&encoding=json&message=%7B%7D", pingd.api);
    let answer = reqwest::Client::new().get(&url).bearer_auth("t-all").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["cache-control"]),
        (200, &"private, max-age=1".parse().unwrap())
    );
    assert_eq!(reqwest::Client::new().get(&url).send().await.unwrap().status(), 401);
}
