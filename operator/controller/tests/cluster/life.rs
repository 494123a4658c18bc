//! A pipeline's life: created, ready, changed, drifted, at rest, deleted.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use http::request::Parts;
use kube::api::{DeleteParams, Patch, PatchParams};
use ping_api::kinds::Kind;
use ping_operator::run::Settings;
use serde_json::json;

use crate::harness::{
    TestNamespace,
    fake_operators::{api, make_all_ready, make_kafka_ready, make_secrets, set_secret, set_status},
    operator::{Operator, settings, settled},
    proxy::ProxyAction,
    server::{Answer, server, server_with},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_manifest_creates_a_ready_pipeline_and_the_columns_show_it() {
    let test = TestNamespace::new("life-ready").await;
    let address = server(Ipv4Addr::LOCALHOST.into()).await;
    let _operator = Operator::start(test.client.clone(), settings(&test, &format!("http://{address}")));
    test.create("demo", json!({})).await;
    make_all_ready(&test, "demo", 3, 2).await;
    test.wait_for("demo", "Exact", "True").await;
    let waited = test.kubectl(&["wait", "--for=condition=Ready", "pp/demo", "--timeout=5s"]).await;
    assert!(waited.contains("condition met"), "{waited}");
    let table = test.kubectl(&["get", "pingpipelines"]).await;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let columns =
        ["NAME", "READY", "EXACT", "TOTAL", "LAG", "POSTGRES", "KAFKA", "CACHE", "SERVER", "PROCESSOR", "AGE"];
    assert_eq!(rows[0], columns);
    assert_eq!(rows[1][..10], ["demo", "True", "True", "42", "<1s", "3/3", "Ready", "2/2", "3/3", "2/2"]);
    let wide = test.kubectl(&["get", "pp", "-o", "wide"]).await;
    assert!(wide.contains("demo-server.life-ready.svc:8080") && wide.contains("<1m"), "{wide}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_becomes_untrue_is_reported_within_three_seconds() {
    let test = TestNamespace::new("life-prompt").await;
    let answer = Arc::new(Mutex::new(Answer::Fresh));
    let address = server_with(Ipv4Addr::LOCALHOST.into(), Arc::clone(&answer)).await;
    // The default: totals are written every ten seconds.
    let settings =
        Settings { stats_interval: Duration::from_secs(10), ..settings(&test, &format!("http://{address}")) };
    let _operator = Operator::start(test.client.clone(), settings);
    test.create("demo", json!({})).await;
    make_all_ready(&test, "demo", 3, 2).await;
    for (now, condition, status) in
        [(Answer::Inexact, "Exact", "False"), (Answer::Old, "Fresh", "False"), (Answer::Silent, "Exact", "Unknown")]
    {
        let mut times = Vec::new();
        for _ in 0..3 {
            *answer.lock().unwrap() = Answer::Fresh;
            test.wait_for("demo", condition, "True").await;
            *answer.lock().unwrap() = now;
            let since = Instant::now();
            test.wait_for("demo", condition, status).await;
            times.push(since.elapsed());
        }
        times.sort();
        println!("{condition} was {status} after {times:?}");
        assert!(times[1] < Duration::from_secs(3), "{condition} was {status} only after {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_at_rest_causes_no_write_for_a_minute() {
    let test = TestNamespace::new("life-rest").await;
    let (operator, writes) = Operator::counted(&test).await;
    test.create("demo", json!({})).await;
    make_all_ready(&test, "demo", 3, 2).await;
    let before = settled(&writes, Duration::from_secs(3)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(writes.load(Ordering::SeqCst) - before, 0);
    operator.stop().await;
    // The first reconcile takes longer than several intervals of the stats.
    let slow_secrets = |request: &Parts| match request.uri.path().contains("/secrets/") {
        true => ProxyAction::Delay(Duration::from_secs(2)),
        false => ProxyAction::Pass,
    };
    let (_restarted, writes) = Operator::counted_with(&test, slow_secrets).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(writes.load(Ordering::SeqCst), 0, "a restart finds nothing to change");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_repaired_within_ten_seconds_and_published() {
    let test = TestNamespace::new("life-drift").await;
    let (_operator, writes) = Operator::counted(&test).await;
    test.create("demo", json!({})).await;
    settled(&writes, Duration::from_secs(1)).await;
    let began = Instant::now();
    let drift = json!({ "spec": { "replicas": 9 } });
    let deployments = api(&test, Kind::Deployment, &test.namespace);
    deployments.patch("demo-server", &PatchParams::default(), &Patch::Merge(drift)).await.unwrap();
    api(&test, Kind::Service, &test.namespace).delete("demo-server", &DeleteParams::default()).await.unwrap();
    until("the old number of pods and the Service", async || {
        let replicas = deployments.get("demo-server").await.unwrap().data["spec"]["replicas"].clone();
        let service = api(&test, Kind::Service, &test.namespace).get_opt("demo-server").await.unwrap();
        if replicas == 3 && service.is_some() { Ok(()) } else { Err(replicas.to_string()) }
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    until("an event about it", async || {
        let published = test.events().await.into_iter().any(|(reason, note)| {
            reason == "DriftRepaired" && note.contains("demo-server") && note.contains(".spec.replicas")
        });
        published.then_some(()).ok_or_else(|| "none".into())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_rolls_the_pods_and_a_password_on_its_way_does_not() {
    let test = TestNamespace::new("life-secret").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    make_secrets(&test, "demo", "first").await;
    let checksum = async || {
        let deployments = api(&test, Kind::Deployment, &test.namespace);
        let deployment = deployments.get_opt("demo-server").await.unwrap();
        let pointer = "/spec/template/metadata/annotations/pingpipeline.io~1secrets";
        deployment.and_then(|found| found.data.pointer(pointer)?.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let first = until("a checksum", async || {
        let now = checksum().await;
        if now.len() == 32 { Ok(now) } else { Err(now) }
    })
    .await;
    let secrets = api(&test, Kind::Secret, &test.namespace);
    secrets.delete("demo-postgres-app", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(checksum().await, first);
    set_secret(&test, &test.namespace, "demo-postgres-app", json!({ "uri": "postgres://changed" })).await;
    until("another checksum", async || {
        let now = checksum().await;
        if now != first { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_pipeline_is_not_repaired() {
    let test = TestNamespace::new("life-suspend").await;
    let (_operator, writes) = Operator::counted(&test).await;
    test.create("demo", json!({})).await;
    settled(&writes, Duration::from_secs(1)).await;
    test.change("demo", json!({ "suspend": true })).await.unwrap();
    until("Suspended", async || {
        let reason = test.condition("demo", "Ready").await.1;
        if reason == "Suspended" { Ok(()) } else { Err(reason) }
    })
    .await;
    let drift = json!({ "spec": { "replicas": 9 } });
    let deployments = api(&test, Kind::Deployment, &test.namespace);
    deployments.patch("demo-server", &PatchParams::default(), &Patch::Merge(drift)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(deployments.get("demo-server").await.unwrap().data["spec"]["replicas"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_whose_finalizer_was_removed_by_hand_is_forgotten() {
    let test = TestNamespace::new("life-forgotten").await;
    let operator = Operator::plain(&test);
    test.create("demo", json!({ "deletionPolicy": "Delete" })).await;
    let is_reported = || operator.metrics().contains(r#"pipeline_ready{namespace="life-forgotten",name="demo"}"#);
    until("its metric", async || is_reported().then_some(()).ok_or_else(|| operator.metrics())).await;
    let topics = api(&test, Kind::KafkaTopic, &test.namespace);
    until("a topic", async || topics.get_opt("demo-pings").await.unwrap().ok_or("none".to_owned())).await;
    // Its deletion waits for a topic operator, so the operator does not remove the finalizer itself.
    let blocked = json!({ "metadata": { "finalizers": ["strimzi.io/topic-operator"] } });
    topics.patch("demo-pings", &PatchParams::default(), &Patch::Merge(blocked)).await.unwrap();
    test.pipelines().delete("demo", &DeleteParams::default()).await.unwrap();
    let removed = json!({ "metadata": { "finalizers": null } });
    test.pipelines().patch("demo", &PatchParams::default(), &Patch::Merge(removed)).await.unwrap();
    until("no metric", async || (!is_reported()).then_some(()).ok_or_else(|| operator.metrics())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_strimzi_is_quoted() {
    let test = TestNamespace::new("life-refused").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    // The topics are created one after the other.
    until("Kafka that is ready", async || {
        make_kafka_ready(&test).await;
        let (status, reason, message) = test.condition("demo", "KafkaReady").await;
        if status == "True" { Ok(()) } else { Err(format!("{status} {reason}: {message}")) }
    })
    .await;
    let failure = json!({ "observedGeneration": 1, "conditions": [{
        "type": "Ready", "status": "False", "reason": "NotSupported", "message": "Decreasing partitions not supported",
        "lastTransitionTime": "2026-11-21T03:31:55Z",
    }] });
    set_status(&test, Kind::KafkaTopic, "demo-pings", failure).await;
    test.wait_for("demo", "KafkaReady", "False").await;
    let (_, reason, message) = test.condition("demo", "KafkaReady").await;
    assert_eq!(reason, "Failed");
    assert!(message.contains("Decreasing partitions not supported"), "{message}");
}
