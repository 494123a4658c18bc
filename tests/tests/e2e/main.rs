//! Does what users do on a real cluster on this machine: install, apply, ping, break, upgrade, delete. `make e2e` builds what
//! this test needs and runs it. It takes minutes, so `make test` skips it.
#![cfg(test)]

mod access;
mod answers;
mod callers;
mod capture;
mod connection;
mod drill;
mod faults;
mod flows;
mod links;
mod load;
mod network;
mod network_namespace;
mod release;
mod report;
mod restore;
mod rotations;
mod test_cluster;
#[path = "../../../dataplane/tests/identity/token_key.rs"]
mod token_key;
mod walkthrough;

use std::time::Duration;

use serde_json::{Value, json};

use self::{
    connection::Connection,
    test_cluster::{NAMESPACE, PIPELINE, TestCluster},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and needs root: make e2e"]
async fn a_pipeline_lives_on_a_real_cluster() {
    let mut cluster = TestCluster::start().await;
    the_chart_installs(&cluster).await;
    the_example_becomes_ready(&cluster).await;
    pings_are_counted_through_the_service(&cluster).await;
    if faults::is_selected("access") {
        access::only_health_endpoints_answer_without_credentials(&cluster).await;
    }
    if faults::is_selected("capture") {
        capture::nothing_is_readable(&cluster).await;
    }
    if faults::is_selected("policies") {
        network::only_flows_of_the_architecture_work(&cluster).await;
    }
    if faults::is_selected("drills") {
        drill::all(&cluster).await;
    }
    if faults::is_selected("delays and disks") {
        drill::delays_and_disks(&cluster).await;
    }
    let mut report = faults::all(&mut cluster).await;
    links::all(&cluster, &mut report).await;
    rotations::all(&cluster, &mut report).await;
    report.print();
    retained_data_is_reused(&cluster).await;
    deletion_leaves_nothing(&cluster).await;
    report.assert_exact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and needs root: make e2e"]
async fn a_pipeline_is_restored_from_an_object_store() {
    if !faults::is_selected("restores") {
        println!("skipped: FAULTS selects no restores");
        return;
    }
    let cluster = TestCluster::start().await;
    the_chart_installs(&cluster).await;
    restore::by_the_page(&cluster).await;
}

async fn the_chart_installs(cluster: &TestCluster) {
    cluster.create_restricted_namespace("ping-system").await;
    cluster.create_restricted_namespace(NAMESPACE).await;
    let watched = format!("--set=watchNamespaces={{{NAMESPACE}}}");
    // The images of the upgrade and of the test's Postgres.
    let allowed = "--set=allowedImages={pingpipeline/pingd:*,testbed/postgresql:*}";
    let chart = ["install", "ping-operator", "charts/ping-operator", &watched, allowed, "--wait", "--timeout=5m"];
    cluster.helm(&chart).await;
    no_service_account_of_the_chart_is_a_cluster_admin(cluster).await;
}

async fn no_service_account_of_the_chart_is_a_cluster_admin(cluster: &TestCluster) {
    let bindings = cluster.json(&["get", "clusterrolebindings"]).await;
    for binding in bindings["items"].as_array().unwrap() {
        if binding["roleRef"]["name"] == "cluster-admin" {
            let has_admin = binding["subjects"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|subject| subject["namespace"] == "ping-system");
            assert!(!has_admin, "{binding}");
        }
    }
}

async fn the_example_becomes_ready(cluster: &TestCluster) {
    cluster.apply_pipeline().await;
    let wait = ["wait", "--for=condition=Ready", "pingpipeline/demo", "--timeout=60s"];
    cluster.wait_until("Ready", Duration::from_secs(420), async || cluster.try_kubectl(&wait).await.is_ok()).await;
    println!("{}", cluster.kubectl(&["get", "pods", "--output=wide"]).await);
}

async fn pings_are_counted_through_the_service(cluster: &TestCluster) {
    let Connection { address, server_name, ca, token, .. } = cluster.connection().await;
    let ping = format!("https://{server_name}:8080/ping.v1.PingService/Ping");
    let body = r#"{"timestamp_ms": 1728926331000}"#;
    let host = format!("{server_name}::{}", address.trim_start_matches("https://"));
    let authorization = format!("Authorization: Bearer {token}");
    let curl = ["-sS", "--fail", "--cacert", &ca, "--connect-to", &host, "-H", &authorization];
    let call = ["-X", "POST", &ping, "-H", "Content-Type: application/json", "-d", body];
    let response = cluster.run("curl", &[&curl[..], &call].concat()).await;
    assert_eq!(response, "{}");
    cluster.pingctl(&["ping"]).await;
    cluster.total_becomes(2).await;
    println!("{}", cluster.kubectl(&["get", "pingpipelines"]).await);
    let screen = String::from_utf8(cluster.plugin(&["status", PIPELINE]).await.stdout).unwrap();
    println!("{screen}");
    assert!(
        screen.lines().all(|line| line.chars().count() <= 100) && screen.lines().count() <= 50,
        "the status does not fit on one screen"
    );
}

/// With `Retain` the data stays, and a new pipeline of the same name continues from it.
async fn retained_data_is_reused(cluster: &TestCluster) {
    let (before, pipeline) = (cluster.count().await, cluster.json(&["get", "pingpipeline", PIPELINE]).await);
    cluster.delete_pipeline().await;
    let left = cluster
        .kubectl(&["get", "clusters.postgresql.cnpg.io,kafkas,kafkatopics,persistentvolumeclaims", "--output=name"])
        .await;
    for object in [
        "cluster.postgresql.cnpg.io/demo-postgres",
        "kafka.kafka.strimzi.io/demo-kafka",
        "persistentvolumeclaim/demo-postgres-1",
    ] {
        assert!(left.contains(object), "no {object} in {left}");
    }
    // The garbage collector is slow after an outage of the API server, and a StatefulSet that is recreated before the pods of
    // the old one are gone would wait for them forever.
    let collected = async || {
        let pods = cluster.json(&["get", "pods", "--selector=app=demo-cache"]).await;
        pods["items"].as_array().is_some_and(Vec::is_empty)
    };
    cluster.wait_until("deletion of the cache's pods", Duration::from_secs(300), collected).await;
    let recreated = json!({
        "apiVersion": pipeline["apiVersion"], "kind": pipeline["kind"], "metadata": { "name": PIPELINE }, "spec": pipeline["spec"],
    });
    cluster.apply(&recreated.to_string()).await;
    cluster
        .wait_until("Ready again", Duration::from_secs(300), async || {
            cluster.is_true("Ready").await && cluster.is_true("Exact").await
        })
        .await;
    assert_eq!(cluster.count().await, before);
    println!("deleted with Retain and recreated: all {before} pings are still counted");
}

async fn deletion_leaves_nothing(cluster: &TestCluster) {
    // At once, before Strimzi has seen the change.
    cluster.patch(r#"{"spec": {"deletionPolicy": "Delete"}}"#).await;
    cluster.delete_pipeline().await;
    let kinds = "clusters.postgresql.cnpg.io,kafkas,kafkatopics,kafkausers,dragonflies,deployments,statefulsets,services,persistentvolumeclaims,pods";
    // The operator may be in the same namespace.
    let get = ["get", kinds, "--selector=app.kubernetes.io/name!=ping-operator"];
    let all_deleted = async || cluster.json(&get).await["items"].as_array().is_some_and(Vec::is_empty);
    cluster.wait_until("deletion of all objects", Duration::from_secs(300), all_deleted).await;
    cluster
        .wait_until("deletion of all volumes", Duration::from_secs(120), async || {
            cluster.json(&["get", "persistentvolumes"]).await["items"].as_array().is_some_and(Vec::is_empty)
        })
        .await;
    println!("deleted with Delete: no objects remain");
}

/// The value at a JSON pointer such as `/status/stats/total`; null if there is none.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}
