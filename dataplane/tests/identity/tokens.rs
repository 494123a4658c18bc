//! Tokens that must not work.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::{
    issuer::{ISSUER, Key, KeyServer, claims, now, sign_with_public_key_as_secret, unsigned},
    policy::{PolicyFile, call, metric, token},
    processes::{Pingd, TIMEOUT},
};

/// A server whose issuer has `key`.
pub async fn server(keys: &KeyServer, rules: &str) -> (Pingd, PolicyFile) {
    let policy = PolicyFile::new(&yaml(keys, rules));
    let path = policy.path();
    let pingd = Pingd::dev(&["--memory", "--access-policy", path.to_str().unwrap()]).await;
    (pingd, policy)
}

fn yaml(keys: &KeyServer, rules: &str) -> String {
    let (ops, url) = (token("ops", "s3cret-ops"), &keys.url);
    format!(
        "tokens: [{ops}]\nissuers: [{{name: cluster, issuer: \"{ISSUER}\", audiences: [ping], jwks: {{url: \"{url}\"}}}}]\n\
         rules:\n- {{callers: [\"token:ops\"], permissions: [read, admin]}}\n{rules}"
    )
}

const SHOP: &str = "- {callers: [\"cluster:system:serviceaccount:shop:*\"], permissions: [ingest]}\n";

fn ping(pingd: &Pingd) -> String {
    format!("{}/ping.v1.PingService/Ping", pingd.api)
}

#[tokio::test]
async fn every_invalid_token_is_refused_and_the_answer_says_why() {
    let (key, stranger) = (Key::new("a"), Key::new("a"));
    let unknown = Key::new("b");
    let keys = KeyServer::start(&[&key]).await;
    let (pingd, _policy) = server(&keys, SHOP).await;
    let valid = key.sign(&claims(&json!({})));
    assert_eq!(call(&ping(&pingd), Some(&valid), &json!({})).await, (200, json!({})));
    let (head, signature) = valid.rsplit_once('.').unwrap();
    let attacks = [
        ("expired", key.sign(&claims(&json!({"exp": now() - 61}))), "have expired"),
        ("premature", key.sign(&claims(&json!({"nbf": now() + 61}))), "not valid yet"),
        ("audience", key.sign(&claims(&json!({"aud": "pong"}))), "for another audience"),
        ("issuer", key.sign(&claims(&json!({"iss": "https://other.example"}))), "issuer (claim iss) is not in"),
        ("malformed", unsigned(&claims(&json!({}))), "is not a valid JWT"),
        ("algorithm", sign_with_public_key_as_secret(&key, &claims(&json!({}))), "algorithm is not allowed"),
        ("key", unknown.sign(&claims(&json!({}))), "does not publish"),
        ("signature", stranger.sign(&claims(&json!({}))), "signature is invalid"),
        ("signature", format!("{head}x.{signature}"), ""),
        ("malformed", key.sign(&claims(&json!({"exp": null}))), "is not a valid JWT"),
        ("malformed", key.sign(&claims(&json!({"sub": ""}))), "is not a valid JWT"),
        ("malformed", "a.b.c".to_owned(), "is not a valid JWT"),
        ("unknown_token", "guess".to_owned(), "not in the server's access policy"),
        ("too_long", format!("{valid}{}", "x".repeat(8 * 1024)), "the limit is 8192"),
    ];
    for (reason, token, words) in &attacks {
        let request = reqwest::Client::new().post(ping(&pingd)).bearer_auth(token).json(&json!({}));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{reason}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer error=\"invalid_token\"", "{reason}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("\"unauthenticated\"") && text.contains(words), "{reason}: {text}");
        assert!(!text.contains(token.as_str()) && !text.contains(&token[..token.len().min(20)]), "{reason}: {text}");
        assert!(!pingd.log().contains(token.as_str()), "{reason}: the log has the token");
    }
    let basic = reqwest::Client::new().post(ping(&pingd)).basic_auth("ops", Some("s3cret-ops")).json(&json!({}));
    assert_eq!(basic.send().await.unwrap().status(), 401);
    assert_eq!(call(&ping(&pingd), None, &json!({})).await.0, 401);
    let metrics = reqwest::Client::new().get(format!("{}/metrics", pingd.admin)).bearer_auth("s3cret-ops");
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let reasons = "expired premature audience issuer algorithm key unknown_token too_long scheme missing";
    for reason in reasons.split(' ') {
        let name = format!("ping_rpc_unauthenticated_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&metrics, &name), 1.0, "{reason}");
    }
    let url = format!("{}/ping.v1.PingService/PingCount", pingd.api);
    let (_, count) = call(&url, Some("s3cret-ops"), &json!({"strong": true})).await;
    assert_eq!(count["pingCount"], "1", "only the valid call was recorded");
}

#[tokio::test]
async fn a_token_of_a_caller_without_a_rule_allows_nothing() {
    let key = Key::new("a");
    let keys = KeyServer::start(&[&key]).await;
    let (pingd, _policy) = server(&keys, SHOP).await;
    for subject in ["system:serviceaccount:other:orders", "ops", "token:ops", "*", "system:serviceaccount:shopx:a"] {
        let token = key.sign(&claims(&json!({"sub": subject})));
        let (status, answer) = call(&ping(&pingd), Some(&token), &json!({})).await;
        assert_eq!((status, &answer["code"]), (403, &json!("permission_denied")), "{subject}");
        let message = answer["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("caller \"cluster:{subject}\" lacks the permission \"ingest\"")),
            "{message}"
        );
    }
}

#[tokio::test]
async fn tokens_with_unknown_keys_cause_few_fetches_and_a_new_key_is_found() {
    let (key, next) = (Key::new("a"), Key::new("b"));
    let keys = KeyServer::start(&[&key]).await;
    let (pingd, _policy) = server(&keys, SHOP).await;
    let (valid, early) = (key.sign(&claims(&json!({}))), next.sign(&claims(&json!({}))));
    assert_eq!(call(&ping(&pingd), Some(&valid), &json!({})).await.0, 200);
    let started = Instant::now();
    let http = reqwest::Client::new();
    let attackers = (0..200).map(|attacker| {
        let token = Key::new(&format!("unknown-{attacker}")).sign(&claims(&json!({})));
        let request = http.post(ping(&pingd)).bearer_auth(token).json(&json!({}));
        async move { request.send().await.unwrap().status().as_u16() }
    });
    let answers = futures::future::join_all(attackers).await;
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    let allowed = 2 + usize::try_from(started.elapsed().as_secs() / 10).unwrap();
    assert!(keys.fetches() <= allowed, "{} fetches, at most {allowed}", keys.fetches());
    keys.publish(&[&key, &next]);
    while call(&ping(&pingd), Some(&early), &json!({})).await.0 != 200 {
        assert!(started.elapsed() < TIMEOUT, "the new key is not found");
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(call(&ping(&pingd), Some(&valid), &json!({})).await.0, 200);
}

#[tokio::test]
async fn tokens_work_while_the_issuer_is_unavailable_but_not_without_its_keys() {
    let key = Key::new("a");
    let keys = KeyServer::start(&[&key]).await;
    let (mut pingd, _policy) = server(&keys, SHOP).await;
    let token = |subject: &str| key.sign(&claims(&json!({"sub": format!("system:serviceaccount:shop:{subject}")})));
    assert_eq!(call(&ping(&pingd), Some(&token("a")), &json!({})).await.0, 200);
    keys.stop();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(call(&ping(&pingd), Some(&token("b")), &json!({})).await.0, 200, "the keys are known");
    pingd.kill_9().await;
    pingd.restart();
    pingd.wait_ready().await;
    let (status, answer) = call(&ping(&pingd), Some(&token("c")), &json!({})).await;
    assert_eq!((status, &answer["code"]), (503, &json!("unavailable")), "{answer}");
    assert_eq!(
        call(&format!("{}/ping.v1.PingService/PingCount", pingd.api), Some("s3cret-ops"), &json!({})).await.0,
        200
    );
}

#[tokio::test]
async fn a_removed_token_is_refused_without_a_restart_and_an_invalid_policy_changes_nothing() {
    let keys = KeyServer::start(&[&Key::new("a")]).await;
    let (pingd, policy) = server(&keys, "").await;
    let url = format!("{}/ping.v1.PingService/PingCount", pingd.api);
    assert_eq!(call(&url, Some("s3cret-ops"), &json!({})).await.0, 200);
    policy.write("rules: [{callers: [ops]}]");
    let started = Instant::now();
    while !pingd.log().contains("the old one stays") {
        assert!(started.elapsed() < TIMEOUT);
        sleep(Duration::from_millis(200)).await;
    }
    assert!(pingd.log().contains("rules[0]"), "the log names the entry");
    assert_eq!(call(&url, Some("s3cret-ops"), &json!({})).await.0, 200);
    policy.write("rules: [{callers: [\"token:ops\"], permissions: [read]}]");
    while call(&url, Some("s3cret-ops"), &json!({})).await.0 != 401 {
        assert!(started.elapsed() < TIMEOUT, "the revoked token still works");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_flood_of_distinct_invalid_tokens_needs_no_memory() {
    let (key, stranger) = (Key::new("a"), Key::new("a"));
    let keys = KeyServer::start(&[&key]).await;
    let (pingd, _policy) = server(&keys, SHOP).await;
    let http = reqwest::Client::new();
    let attack = async |count: usize| {
        for index in 0..count {
            let padding = "x".repeat(3_000);
            let token = stranger.sign(&claims(&json!({"sub": format!("{index}-{padding}")})));
            let answer = http.post(ping(&pingd)).bearer_auth(token).json(&json!({})).send().await.unwrap();
            assert_eq!(answer.status(), 401);
        }
    };
    attack(200).await;
    let before = pingd.peak_memory();
    attack(4_000).await;
    // 4,000 tokens have 16 MB.
    let grown = pingd.peak_growth(before);
    assert!(grown < 4 << 20, "{grown} bytes");
}
