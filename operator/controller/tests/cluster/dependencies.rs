//! CRDs that are absent, installed later, and removed again.

use std::time::Instant;

use ping_api::kinds::Kind;
use ping_testbed::control_plane::{ControlPlane, Options, crds};
use serde_json::json;

use crate::harness::{
    TestNamespace,
    fake_operators::{api, make_all_ready},
    operator::Operator,
    own_crd, until,
};

/// A control plane without the other operators' CRDs. Never dropped: the program's end takes it along.
async fn bare() -> &'static ControlPlane {
    let options = Options { crds: false, more_crds: vec![own_crd()], ..Options::default() };
    Box::leak(Box::new(ControlPlane::start_with(options).await.unwrap()))
}

async fn reason_becomes(test: &TestNamespace, kind: &str, wanted: &str) {
    until(&format!("{kind} {wanted}"), async || {
        let (_, reason, message) = test.condition("demo", kind).await;
        if reason == wanted { Ok(()) } else { Err(format!("{reason}: {message}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_crds_are_named_and_picked_up_within_seconds_of_being_installed() {
    let test = TestNamespace::on(bare().await, "bare").await;
    let _operator = Operator::plain(&test);
    let began = Instant::now();
    test.create("demo", json!({})).await;
    for kind in ["PostgresReady", "KafkaReady", "CacheReady"] {
        reason_becomes(&test, kind, "DependencyMissing").await;
    }
    let servers = api(&test, Kind::Deployment, &test.namespace);
    assert!(servers.get_opt("demo-server").await.unwrap().is_some(), "the rest is made all the same");
    eprintln!("the rest after {:?}", began.elapsed());
    let folder = crds().unwrap();
    for (part, kind) in [("cnpg", "PostgresReady"), ("strimzi", "KafkaReady"), ("dragonfly", "CacheReady")] {
        test.control_plane.install_crds(&folder.join(part)).await.unwrap();
        let installed = Instant::now();
        reason_becomes(&test, kind, "Provisioning").await;
        eprintln!("{part} was picked up after {:?}", installed.elapsed());
    }
    make_all_ready(&test, "demo", 3, 2).await;
    assert!(test.kubectl(&["get", "pp", "demo"]).await.contains("True"), "PodMonitors are not needed");
    test.control_plane.install_crds(&folder.join("prometheus")).await.unwrap();
    until("a PodMonitor", async || {
        let found = api(&test, Kind::PodMonitor, &test.namespace).get_opt("demo-server").await;
        found.ok().flatten().ok_or("none".to_owned())
    })
    .await;
    test.kubectl(&["delete", "crd", "dragonflies.dragonflydb.io"]).await;
    reason_becomes(&test, "CacheReady", "DependencyMissing").await;
    test.kubectl(&["delete", "crd", "kafkatopics.kafka.strimzi.io"]).await;
    test.kubectl(&["delete", "pp", "demo", "--timeout=60s"]).await;
}
