//! What a user does, done for real, on a cluster of this machine: install, apply, ping, break, upgrade, delete. `make e2e`
//! builds what it needs and runs it; it takes minutes, so `make test` does not.
#![cfg(test)]

mod drill;
mod faults;
mod load;
mod report;
mod stage;

use std::time::Duration;

use serde_json::{Value, json};

use self::stage::{NAMESPACE, PIPELINE, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and needs root: make e2e"]
async fn a_pipeline_lives_on_a_real_cluster() {
    let mut stage = Stage::set().await;
    the_chart_installs(&stage).await;
    the_example_becomes_ready(&stage).await;
    pings_are_counted_through_the_service(&stage).await;
    if faults::is_asked_for("drills") {
        drill::all(&stage).await;
    }
    let report = faults::all(&mut stage).await;
    report.print();
    retained_data_is_taken_up_again(&stage).await;
    deletion_leaves_nothing(&stage).await;
    report.assert_exact();
}

async fn the_chart_installs(stage: &Stage) {
    stage.make_restricted_namespace("ping-system").await;
    stage.helm(&["install", "ping-operator", "charts/ping-operator", "--wait", "--timeout=5m"]).await;
    nothing_of_ours_is_a_cluster_admin(stage).await;
}

async fn nothing_of_ours_is_a_cluster_admin(stage: &Stage) {
    let bindings = stage.json(&["get", "clusterrolebindings"]).await;
    for binding in bindings["items"].as_array().unwrap() {
        if binding["roleRef"]["name"] == "cluster-admin" {
            let ours = binding["subjects"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|subject| subject["namespace"] == "ping-system");
            assert!(!ours, "{binding}");
        }
    }
}

async fn the_example_becomes_ready(stage: &Stage) {
    stage.make_restricted_namespace(NAMESPACE).await;
    stage.apply_pipeline().await;
    let wait = ["wait", "--for=condition=Ready", "pingpipeline/demo", "--timeout=60s"];
    stage.until("Ready", Duration::from_secs(420), async || stage.try_kubectl(&wait).await.is_ok()).await;
    println!("{}", stage.kubectl(&["get", "pods", "--output=wide"]).await);
}

async fn pings_are_counted_through_the_service(stage: &Stage) {
    let address = stage.address().await;
    let ping = format!("http://{address}/ping.v1.PingService/Ping");
    let body = r#"{"timestamp_ms": 1728926331000}"#;
    let said = stage
        .run("curl", &["-sS", "--fail", "-X", "POST", &ping, "-H", "Content-Type: application/json", "-d", body])
        .await;
    assert_eq!(said, "{}");
    stage.pingctl(&["ping"]).await;
    stage.total_becomes(2).await;
    println!("{}", stage.kubectl(&["get", "pingpipelines"]).await);
    let screen = String::from_utf8(stage.plugin(&["status", PIPELINE]).await.stdout).unwrap();
    println!("{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 100) && screen.lines().count() <= 50, "not one screen");
}

/// Under `Retain` the data stays, and a pipeline of the same name goes on from it.
async fn retained_data_is_taken_up_again(stage: &Stage) {
    let (before, pipeline) = (stage.count().await, stage.json(&["get", "pingpipeline", PIPELINE]).await);
    stage.delete_pipeline().await;
    let left = stage
        .kubectl(&["get", "clusters.postgresql.cnpg.io,kafkas,kafkatopics,persistentvolumeclaims", "--output=name"])
        .await;
    for object in [
        "cluster.postgresql.cnpg.io/demo-postgres",
        "kafka.kafka.strimzi.io/demo-kafka",
        "persistentvolumeclaim/demo-postgres-1",
    ] {
        assert!(left.contains(object), "no {object} in {left}");
    }
    // The garbage collector of a Kubernetes whose API server was away takes its time. A StatefulSet that is back before the
    // old one's pods are gone would wait for them for ever.
    let collected = async || {
        let pods = stage.json(&["get", "pods", "--selector=app=demo-cache"]).await;
        pods["items"].as_array().is_some_and(Vec::is_empty)
    };
    stage.until("end of the cache's pods", Duration::from_secs(300), collected).await;
    let again = json!({
        "apiVersion": pipeline["apiVersion"], "kind": pipeline["kind"], "metadata": { "name": PIPELINE }, "spec": pipeline["spec"],
    });
    stage.apply(&again.to_string()).await;
    stage
        .until("Ready again", Duration::from_secs(300), async || {
            stage.is_true("Ready").await && stage.is_true("Exact").await
        })
        .await;
    assert_eq!(stage.count().await, before);
    println!("deleted with Retain and applied again: {before} pings are still there");
}

async fn deletion_leaves_nothing(stage: &Stage) {
    stage.patch(r#"{"spec": {"deletionPolicy": "Delete"}}"#).await;
    stage.until("change taken up", Duration::from_secs(60), async || stage.is_observed().await).await;
    stage.delete_pipeline().await;
    let kinds = "clusters.postgresql.cnpg.io,kafkas,kafkatopics,kafkausers,dragonflies,deployments,statefulsets,services,persistentvolumeclaims,pods";
    let nothing = async || stage.json(&["get", kinds]).await["items"].as_array().is_some_and(Vec::is_empty);
    stage.until("nothing left", Duration::from_secs(300), nothing).await;
    stage
        .until("no volume left", Duration::from_secs(120), async || {
            stage.json(&["get", "persistentvolumes"]).await["items"].as_array().is_some_and(Vec::is_empty)
        })
        .await;
    println!("deleted with Delete: nothing is left");
}

/// The value of a field, e.g. at `/status/stats/total`.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}
