//! An API server that refuses, stumbles and hangs up; objects that are somebody else's; deletions nobody helps with.

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
use ping_operator::{run::Settings, watches::Scope};
use ping_testbed::control_plane::{ControlPlane, Options};
use serde_json::json;

use crate::harness::{
    Place,
    fake_operators::{api, make_all_ready},
    operator::{Operator, settings, settled},
    own_crd,
    proxy::{self, Fate},
    root,
    shape::{differences, shape},
    until,
};

/// About one write in three and one read in thirty fail, with 409, 429 or 500; watches break off after half a second. Not every
/// third write: a pass that fails makes as many writes as the one before, and the same of them would fail each time.
fn stumbling() -> proxy::Judge {
    let (reads, writes) = (AtomicU64::new(1), AtomicU64::new(1));
    Arc::new(move |request| {
        if request.uri.query().is_some_and(|query| query.contains("watch=true")) {
            return Fate::BreakOff(Duration::from_millis(500));
        }
        let write = proxy::is_write(request);
        let (count, period) = if write { (&writes, 3) } else { (&reads, 30) };
        let scattered = count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        match scattered % (3 * period) {
            0 if write => Fate::Answer(StatusCode::CONFLICT),
            0 | 1 => Fate::Answer(StatusCode::TOO_MANY_REQUESTS),
            2 => Fate::Answer(StatusCode::INTERNAL_SERVER_ERROR),
            _ => Fate::Pass,
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_stumbles_is_outlasted() {
    let calm = Place::new("faults-calm").await;
    let (_calm_operator, writes) = Operator::counted(&calm).await;
    calm.create("demo", json!({})).await;
    settled(&writes, Duration::from_secs(2)).await;
    let expected = shape(&calm).await;

    let place = Place::new("faults-rough").await;
    let client = proxy::client(&place.client, stumbling()).await;
    let _operator = Operator::start(client, settings(&place, "http://127.0.0.1:9"));
    place.create("demo", json!({})).await;
    until("the same objects", async || {
        let differences = differences(&shape(&place).await, &expected);
        if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
    })
    .await;
    make_all_ready(&place, "demo", 3, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_killed_is_waited_for() {
    let options = Options { more_crds: vec![own_crd()], ..Options::default() };
    let mut control_plane = ControlPlane::start_with(options).await.unwrap();
    let config = crate::harness::config(&control_plane).await;
    let client = kube::Client::try_from(config.clone()).unwrap();
    let settings = Settings {
        scope: Scope::Namespace("default".into()),
        image: "pingpipeline/pingd:test".into(),
        server_address: "http://127.0.0.1:9".into(),
        figures_every: Duration::from_secs(1),
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
async fn an_object_of_somebody_else_is_left_alone_and_named() {
    let place = Place::new("faults-taken").await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "demo-server" },
        "spec": { "ports": [{ "port": 1, "protocol": "TCP" }] },
    });
    let services = api(&place, Kind::Service, &place.namespace);
    services.patch("demo-server", &PatchParams::apply("somebody"), &Patch::Apply(theirs)).await.unwrap();
    let _operator = Operator::plain(&place);
    place.create("demo", json!({})).await;
    until("NameTaken", async || {
        let (_, reason, message) = place.condition("demo", "Ready").await;
        let named = reason == "NameTaken" && message.contains("Service faults-taken/demo-server exists already");
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
async fn retain_leaves_the_data_says_where_and_takes_it_up_again() {
    let place = Place::new("faults-retain").await;
    let (_operator, writes) = Operator::counted(&place).await;
    place.create("demo", json!({})).await;
    settled(&writes, Duration::from_secs(1)).await;
    let cluster = api(&place, Kind::Cluster, &place.namespace).get("demo-postgres").await.unwrap();
    place.kubectl(&["delete", "pp", "demo", "--cascade=foreground", "--timeout=60s"]).await;
    let left: Vec<String> = shape(&place).await.into_keys().collect();
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
    let told = place.events().await.into_iter().find(|(reason, _)| reason == "Retained").unwrap();
    assert!(told.1.contains("Cluster faults-retain/demo-postgres"), "{}", told.1);
    place.create("demo", json!({})).await;
    until("servers again", async || {
        api(&place, Kind::Deployment, &place.namespace).get_opt("demo-server").await.unwrap().ok_or("none".into())
    })
    .await;
    let again = api(&place, Kind::Cluster, &place.namespace).get("demo-postgres").await.unwrap();
    assert_eq!(again.metadata.uid, cluster.metadata.uid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_within_a_minute_though_no_topic_operator_takes_its_finalizer_off() {
    let place = Place::new("faults-topic").await;
    let (_operator, writes) = Operator::counted(&place).await;
    place.create("demo", json!({ "deletionPolicy": "Delete" })).await;
    settled(&writes, Duration::from_secs(1)).await;
    let finalizer = json!({ "metadata": { "finalizers": ["strimzi.io/topic-operator"] } });
    let topics = api(&place, Kind::KafkaTopic, &place.namespace);
    topics.patch("demo-pings", &PatchParams::default(), &Patch::Merge(finalizer)).await.unwrap();
    let began = Instant::now();
    place.kubectl(&["delete", "pp", "demo", "--timeout=60s"]).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let left: Vec<String> = shape(&place).await.into_keys().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(place.events().await.iter().any(|(reason, _)| reason == "FinalizerStripped"));
}
