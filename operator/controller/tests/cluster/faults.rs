//! An API server that rejects requests, fails and drops connections; objects of other owners; deletions that other operators block.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;
use kube::api::{DeleteParams, Patch, PatchParams};
use ping_api::kinds::Kind;
use ping_operator::{cluster_state::Platform, run::Settings, scope::Scope};
use ping_testbed::control_plane::{ControlPlane, Options};
use serde_json::json;

use crate::harness::{
    TestNamespace,
    fake_operators::{api, make_all_ready},
    operator::{Operator, settings, settled},
    own_crd,
    proxy::{self, ProxyAction},
    root,
    shape::{differences, shape},
    until,
};

/// About one write in three and one read in thirty fail, with 409, 429 or 500; watches break off after half a second. Not every
/// third write: a failed reconcile makes as many writes as the one before, and the same ones would fail each time.
fn stumbling() -> proxy::Policy {
    let (reads, writes) = (AtomicU64::new(1), AtomicU64::new(1));
    Arc::new(move |request| {
        if request.uri.query().is_some_and(|query| query.contains("watch=true")) {
            return ProxyAction::BreakOff(Duration::from_millis(500));
        }
        let write = proxy::is_write(request);
        let (count, period) = if write { (&writes, 3) } else { (&reads, 30) };
        let scattered = count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        match scattered % (3 * period) {
            0 if write => ProxyAction::Answer(StatusCode::CONFLICT),
            0 | 1 => ProxyAction::Answer(StatusCode::TOO_MANY_REQUESTS),
            2 => ProxyAction::Answer(StatusCode::INTERNAL_SERVER_ERROR),
            _ => ProxyAction::Pass,
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_stumbles_is_outlasted() {
    let calm = TestNamespace::new("faults-calm").await;
    let (_calm_operator, writes) = Operator::counted(&calm).await;
    calm.create("demo", json!({})).await;
    settled(&writes, Duration::from_secs(2)).await;
    let expected = shape(&calm).await;

    let test = TestNamespace::new("faults-rough").await;
    let client = proxy::client(&test.client, stumbling()).await;
    let _operator = Operator::start(client, settings(&test, "http://127.0.0.1:9"));
    test.create("demo", json!({})).await;
    until("the same objects", async || {
        let differences = differences(&shape(&test).await, &expected);
        if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
    })
    .await;
    make_all_ready(&test, "demo", 3, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_killed_is_waited_for() {
    let options = Options { more_crds: vec![own_crd()], ..Options::default() };
    let mut control_plane = ControlPlane::start_with(options).await.unwrap();
    let config = crate::harness::config(&control_plane).await;
    let client = kube::Client::try_from(config.clone()).unwrap();
    let settings = Settings {
        scope: Scope::namespace("default"),
        image: "pingpipeline/pingd:test".into(),
        platform: Platform::default(),
        server_address: "http://127.0.0.1:9".into(),
        stats_interval: Duration::from_secs(1),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        lease_namespace: None,
        identity: "test".into(),
    };
    let _operator = Operator::start(client.clone(), settings);
    control_plane.kill_apiserver().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    control_plane.restart_apiserver().await.unwrap();
    let manifest = std::fs::read_to_string(root().join("examples/demo.yaml")).unwrap();
    control_plane.kubectl_with_input(["apply", "-f", "-"], &manifest).await.unwrap();
    let deployments: kube::Api<k8s_openapi::api::apps::v1::Deployment> = kube::Api::namespaced(client, "default");
    until("servers", async || deployments.get_opt("demo-server").await.ok().flatten().ok_or("none".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_owner_is_left_alone_and_named() {
    let test = TestNamespace::new("faults-taken").await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "demo-server" },
        "spec": { "ports": [{ "port": 1, "protocol": "TCP" }] },
    });
    let services = api(&test, Kind::Service, &test.namespace);
    services.patch("demo-server", &PatchParams::apply("another-controller"), &Patch::Apply(theirs)).await.unwrap();
    let _operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    until("NameConflict", async || {
        let (_, reason, message) = test.condition("demo", "Ready").await;
        let named = reason == "NameConflict" && message.contains("Service faults-taken/demo-server already exists");
        if named { Ok(()) } else { Err(format!("{reason}: {message}")) }
    })
    .await;
    assert_eq!(services.get("demo-server").await.unwrap().data["spec"]["ports"][0]["port"], 1);
    services.delete("demo-server", &DeleteParams::default()).await.unwrap();
    until("the Service of the pipeline", async || {
        let port =
            services.get_opt("demo-server").await.unwrap().map(|found| found.data["spec"]["ports"][0]["port"].clone());
        if port == Some(json!(8080)) { Ok(()) } else { Err(format!("{port:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_keeps_the_data_lists_it_and_uses_it_again() {
    let test = TestNamespace::new("faults-retain").await;
    let (_operator, writes) = Operator::counted(&test).await;
    test.create("demo", json!({})).await;
    settled(&writes, Duration::from_secs(1)).await;
    let cluster = api(&test, Kind::Cluster, &test.namespace).get("demo-postgres").await.unwrap();
    test.kubectl(&["delete", "pp", "demo", "--cascade=foreground", "--timeout=60s"]).await;
    let left: Vec<String> = shape(&test).await.into_keys().collect();
    assert_eq!(
        left,
        [
            "Cluster demo-postgres",
            "Kafka demo-kafka",
            "KafkaNodePool demo-broker",
            "KafkaTopic demo-ping-minutes",
            "KafkaTopic demo-pings",
            "KafkaTopic demo-pings-dead-letter",
        ]
    );
    let published = test.events().await.into_iter().find(|(reason, _)| reason == "Retained").unwrap();
    assert!(published.1.contains("Cluster faults-retain/demo-postgres"), "{}", published.1);
    test.create("demo", json!({})).await;
    until("servers again", async || {
        api(&test, Kind::Deployment, &test.namespace).get_opt("demo-server").await.unwrap().ok_or("none".into())
    })
    .await;
    let again = api(&test, Kind::Cluster, &test.namespace).get("demo-postgres").await.unwrap();
    assert_eq!(again.metadata.uid, cluster.metadata.uid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_within_a_minute_even_if_no_topic_operator_removes_its_finalizer() {
    let test = TestNamespace::new("faults-topic").await;
    let (_operator, writes) = Operator::counted(&test).await;
    test.create("demo", json!({ "deletionPolicy": "Delete" })).await;
    settled(&writes, Duration::from_secs(1)).await;
    let finalizer = json!({ "metadata": { "finalizers": ["strimzi.io/topic-operator"] } });
    let topics = api(&test, Kind::KafkaTopic, &test.namespace);
    topics.patch("demo-pings", &PatchParams::default(), &Patch::Merge(finalizer)).await.unwrap();
    let began = Instant::now();
    test.kubectl(&["delete", "pp", "demo", "--timeout=60s"]).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let left: Vec<String> = shape(&test).await.into_keys().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(test.events().await.iter().any(|(reason, _)| reason == "FinalizerStripped"));
}
