//! Tokens, certificates and access policies of a pipeline, as the API server stores them.

use k8s_openapi::ByteString;
use kube::api::{DeleteParams, Patch, PatchParams};
use ping_api::kinds::Kind;
use ping_operator::certificates::names_of;
use serde_json::{Value, json};

use crate::harness::{
    TestNamespace,
    fake_operators::{api, make_all_ready, set_allowed_secret, set_secret},
    operator::Operator,
    until,
};

/// The value of a key of a Secret.
async fn value(test: &TestNamespace, name: &str, key: &str) -> Result<String, String> {
    let secret = api(test, Kind::Secret, &test.namespace).get_opt(name).await.unwrap().ok_or("no Secret")?;
    let encoded = secret.data["data"][key].clone();
    let bytes: ByteString = serde_json::from_value(encoded).map_err(|_| format!("no {key}"))?;
    Ok(String::from_utf8(bytes.0).unwrap())
}

async fn eventually(test: &TestNamespace, name: &str, key: &str) -> String {
    until(&format!("{key} of {name}"), async || value(test, name, key).await).await
}

async fn policy(test: &TestNamespace) -> Value {
    yaml_serde::from_str(&eventually(test, "demo-access", "server.yaml").await).unwrap()
}

/// Waits until the access policy is as wanted.
async fn until_policy(test: &TestNamespace, what: &str, is: impl Fn(&Value) -> bool) {
    until(what, async || {
        let now = policy(test).await;
        if is(&now) { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_stays_the_same_until_its_secret_is_deleted() {
    let test = TestNamespace::new("access-token").await;
    let operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    let first = eventually(&test, "demo-token", "token").await;
    assert_eq!(first.len(), 64);
    let before = policy(&test).await;
    let certificate = eventually(&test, "demo-server-tls", "tls.crt").await;
    assert!(names_of(certificate.as_bytes()).unwrap().contains("demo-server.access-token.svc.cluster.local"));
    make_all_ready(&test, "demo", 3, 2).await;
    operator.stop().await;
    let _restarted = Operator::plain(&test);
    test.change("demo", json!({ "server": { "replicas": 5 } })).await.unwrap();
    until("the change", async || {
        let server = api(&test, Kind::Deployment, &test.namespace).get("demo-server").await.unwrap();
        if server.data["spec"]["replicas"] == 5 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert_eq!(eventually(&test, "demo-token", "token").await, first);
    assert_eq!(eventually(&test, "demo-server-tls", "tls.crt").await, certificate);
    assert_eq!(policy(&test).await, before);

    api(&test, Kind::Secret, &test.namespace).delete("demo-token", &DeleteParams::default()).await.unwrap();
    let second = eventually(&test, "demo-token", "token").await;
    assert_ne!(second, first);
    until_policy(&test, "the digest of the new token", |now| now["tokens"] != before["tokens"]).await;
    let access = test.pipelines().get("demo").await.unwrap().status.unwrap().access.unwrap();
    assert_eq!((access.token_secret.as_deref(), access.ca_secret.as_deref()), (Some("demo-token"), Some("demo-ca")));
    let wide = test.kubectl(&["get", "pp", "-o", "wide"]).await;
    assert!(wide.contains("AUTHENTICATED") && wide.contains("ENCRYPTED"), "{wide}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_turned_off_leaves_no_token_and_is_shown() {
    let test = TestNamespace::new("access-off").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    eventually(&test, "demo-token", "token").await;
    test.wait_for("demo", "Authenticated", "True").await;
    let off = json!({ "mode": "Disable" });
    test.change("demo", json!({ "server": { "authentication": off, "tls": off } })).await.unwrap();
    test.wait_for("demo", "Authenticated", "False").await;
    test.wait_for("demo", "Encrypted", "False").await;
    until("no Secrets about callers", async || {
        for name in ["demo-token", "demo-operator-token", "demo-metrics-token", "demo-access", "demo-server-tls"] {
            if api(&test, Kind::Secret, &test.namespace).get_opt(name).await.unwrap().is_some() {
                return Err(name.to_owned());
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_users_need_a_labelled_secret_and_a_digest() {
    let test = TestNamespace::new("access-users").await;
    let _operator = Operator::plain(&test);
    set_secret(&test, &test.namespace, "callers", json!({ "ci": "t0ken-in-clear-text" })).await;
    let tokens = json!([{ "name": "ci", "sha256": { "name": "callers", "key": "ci" } }]);
    let rules = json!([{ "callers": ["token:ci"], "permissions": ["ingest"], "sources": ["orders-*"] }]);
    let quotas = json!([{ "name": "ci", "callers": ["token:ci"], "eventsPerSecond": 100 }]);
    let authorization = json!({ "rules": rules, "quotas": quotas });
    let server = json!({ "authentication": { "tokens": tokens }, "authorization": authorization });
    test.create("demo", json!({ "server": server })).await;
    let stalled = async |reason: &str| {
        until(reason, async || {
            let (_, now, message) = test.condition("demo", "Stalled").await;
            if now == reason { Ok(message) } else { Err(format!("{now}: {message}")) }
        })
        .await
    };
    let message = stalled("SecretNotAllowed").await;
    assert!(message.contains("label secret callers pingpipeline.io/allow-reference=true"), "{message}");
    set_allowed_secret(&test, "callers", json!({ "ci": "t0ken-in-clear-text" })).await;
    let message = stalled("SecretMissing").await;
    assert!(message.contains("sha256sum") && !message.contains("t0ken-in-clear-text"), "{message}");
    let digest = "a".repeat(64);
    set_allowed_secret(&test, "callers", json!({ "ci": digest })).await;
    until_policy(&test, "the user's token", |now| now["tokens"][0] == json!({ "name": "ci", "sha256": digest })).await;
    let policy = policy(&test).await;
    assert_eq!(policy["rules"][0]["sources"], json!(["orders-*"]));
    assert_eq!((&policy["quotas"][0]["eventsPerSecond"], &policy["quotas"][0]["per"]), (&json!(100), &json!("caller")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_the_clusters_service_accounts_are_read_from_the_api_server() {
    let test = TestNamespace::new("access-accounts").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({ "server": { "authentication": { "serviceAccounts": {} } } })).await;
    until_policy(&test, "the cluster's issuer", |now| {
        now["issuers"][0]["issuer"] == "https://kubernetes.default.svc"
            && now["issuers"][0]["audiences"] == json!(["ping"])
    })
    .await;
    let keys: Value = serde_json::from_str(&eventually(&test, "demo-access", "jwks-cluster.json").await).unwrap();
    assert!(["EC", "RSA"].contains(&keys["keys"][0]["kty"].as_str().unwrap()), "{keys}");
}

/// Its author knows the token in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_someone_else_planted_is_not_used() {
    let test = TestNamespace::new("access-planted").await;
    let planted = "p".repeat(64);
    set_secret(&test, &test.namespace, "demo-token", json!({ "token": planted })).await;
    // Even if it looks like the operator's own.
    let labels = json!({ "pingpipeline.io/pipeline": "demo", "pingpipeline.io/namespace": test.namespace });
    let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    let secrets = api(&test, Kind::Secret, &test.namespace);
    secrets.patch("demo-token", &PatchParams::default(), &patch).await.unwrap();
    let _operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    let message = until("a refusal", async || {
        let (_, reason, message) = test.condition("demo", "Stalled").await;
        if reason == "NameConflict" { Ok(message) } else { Err(format!("{reason}: {message}")) }
    })
    .await;
    assert!(message.contains("demo-token") && message.contains("Its content is not used"), "{message}");
    assert!(secrets.get_opt("demo-access").await.unwrap().is_none());
    secrets.delete("demo-token", &DeleteParams::default()).await.unwrap();
    assert_ne!(eventually(&test, "demo-token", "token").await, planted);
    test.wait_for("demo", "Stalled", "False").await;
}
