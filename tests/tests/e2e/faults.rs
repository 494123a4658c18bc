//! The faults and changes that the pipeline goes through, one after the other, each under load.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    at,
    load::Load,
    report::Report,
    test_cluster::{NAMESPACE, TestCluster, is_ready},
};

const TIMEOUT: Duration = Duration::from_secs(300);

/// A macro because some faults need exclusive access to the cluster.
macro_rules! under_load {
    ($cluster:ident, $report:ident, $name:expr, $fault:expr) => {{
        if is_selected($name) {
            let load = Load::start($cluster).await;
            $fault;
            let outcome = load.finish($cluster).await;
            $report.add($name, outcome);
        }
    }};
}

/// `FAULTS` selects faults: a comma-separated list of parts of their names. Unset: all.
pub(crate) fn is_selected(name: &str) -> bool {
    std::env::var("FAULTS").map_or(true, |words| words.split(',').any(|word| name.contains(word)))
}

/// Runs the selected faults in a realistic order.
pub(crate) async fn all(cluster: &mut TestCluster) -> Report {
    let mut report = Report::default();
    for (role, fault) in [("server", "every server pod killed"), ("processor", "every processor pod killed")] {
        under_load!(
            cluster,
            report,
            fault,
            kill(cluster, NAMESPACE, &format!("app.kubernetes.io/component={role}")).await
        );
    }
    under_load!(
        cluster,
        report,
        "every operator pod killed",
        kill(cluster, "ping-system", "app.kubernetes.io/name=ping-operator").await
    );
    under_load!(cluster, report, "the Postgres primary killed", kill_primary(cluster).await);
    under_load!(cluster, report, "Kafka killed", kill(cluster, NAMESPACE, "strimzi.io/kind=Kafka").await);
    under_load!(cluster, report, "the cache killed", kill(cluster, NAMESPACE, "app=demo-cache").await);
    under_load!(cluster, report, "a node drained", drain(cluster, "ping-node-2").await);
    cluster.kubectl(&["uncordon", "ping-node-2"]).await;
    under_load!(cluster, report, "the operator upgraded", upgrade_operator(cluster).await);
    under_load!(cluster, report, "the data plane upgraded: image and settings", upgrade_data_plane(cluster).await);
    under_load!(cluster, report, "scaled from 2 + 2 to 3 + 3, re-partitioned from 3 to 6", scale(cluster).await);
    under_load!(cluster, report, "hibernated and woken", hibernate(cluster).await);
    under_load!(cluster, report, "the API server killed and started again", restart_apiserver(cluster).await);
    report
}

/// Kills pods without a grace period, and waits until as many others are ready.
async fn kill(cluster: &TestCluster, namespace: &str, selector: &str) {
    let before = cluster.pods(namespace, selector).await;
    let killed = cluster
        .kubectl(&["delete", "pods", "--force", "--grace-period=0", "--selector", selector, "--namespace", namespace])
        .await;
    assert!(killed.contains("deleted"), "no pod matches {selector}: {killed}");
    let replaced = async || {
        let now = cluster.pods(namespace, selector).await;
        let is_new = |pod: &&Value| before.iter().all(|old| at(old, "/metadata/uid") != at(pod, "/metadata/uid"));
        let ready = now.iter().filter(is_new).filter(|pod| is_ready(pod)).count();
        ready >= before.iter().filter(|pod| is_ready(pod)).count()
    };
    cluster.wait_until(&format!("other pods of {selector}"), TIMEOUT, replaced).await;
}

async fn kill_primary(cluster: &TestCluster) {
    let postgres = cluster.json(&["get", "clusters.postgresql.cnpg.io", "demo-postgres"]).await;
    let primary = at(&postgres, "/status/currentPrimary").as_str().unwrap().to_owned();
    cluster.kubectl(&["delete", "pod", "--force", "--grace-period=0", &primary]).await;
    let switched = async || {
        let postgres = cluster.json(&["get", "clusters.postgresql.cnpg.io", "demo-postgres"]).await;
        at(&postgres, "/status/currentPrimary").as_str() != Some(&primary)
    };
    cluster.wait_until("another primary", TIMEOUT, switched).await;
}

/// Respects disruption budgets: kubectl retries until CloudNativePG has moved the primary.
async fn drain(cluster: &TestCluster, node: &str) {
    let arguments = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s"];
    let deadline = Instant::now() + TIMEOUT;
    while let Err(error) = cluster.try_kubectl(&arguments).await {
        assert!(Instant::now() < deadline, "{error:#}");
    }
}

async fn upgrade_operator(cluster: &TestCluster) {
    cluster.import_next("ping-operator").await;
    let selector = "app.kubernetes.io/name=ping-operator";
    let before = cluster.image_ids("ping-system", selector).await;
    cluster
        .helm(&[
            "upgrade",
            "ping-operator",
            "charts/ping-operator",
            "--reuse-values",
            "--set=image.tag=next",
            "--wait",
            "--timeout=5m",
        ])
        .await;
    cluster.wait_for_other_images("ping-system", selector, &before).await;
}

async fn upgrade_data_plane(cluster: &TestCluster) {
    cluster.import_next("pingd").await;
    let next = r#""image": "pingpipeline/pingd:next""#;
    let spec = format!(
        r#"{{"spec": {{"server": {{{next}, "lanes": 2}}, "processor": {{{next}, "flush": {{"intervalMs": 50}}}}}}}}"#
    );
    let selector = "app.kubernetes.io/component in (server, processor)";
    let before = cluster.image_ids(NAMESPACE, selector).await;
    cluster.patch(&spec).await;
    wait_for_rollout(cluster).await;
    cluster.wait_for_other_images(NAMESPACE, selector, &before).await;
}

async fn scale(cluster: &TestCluster) {
    let spec =
        r#"{"spec": {"server": {"replicas": 3}, "processor": {"replicas": 3}, "kafka": {"topic": {"partitions": 6}}}}"#;
    cluster.patch(spec).await;
    wait_for_rollout(cluster).await;
}

async fn hibernate(cluster: &TestCluster) {
    cluster.patch(r#"{"spec": {"hibernate": true}}"#).await;
    let scaled_down = async || {
        let pods =
            cluster.json(&["get", "pods", "--selector=app.kubernetes.io/component in (server, processor)"]).await;
        let instances =
            cluster.json(&["get", "pods", "--selector=cnpg.io/cluster=demo-postgres,cnpg.io/podRole=instance"]).await;
        [pods, instances].iter().all(|pods| pods["items"].as_array().is_some_and(Vec::is_empty))
    };
    cluster.wait_until("hibernation", TIMEOUT, scaled_down).await;
    cluster.patch(r#"{"spec": {"hibernate": false}}"#).await;
}

/// Deletes a Secret, which its operator recreates with another password.
pub(crate) async fn rotate(cluster: &TestCluster, secret: &str) {
    cluster.kubectl(&["delete", "secret", secret]).await;
    cluster
        .wait_until("a new Secret", TIMEOUT, async || cluster.try_kubectl(&["get", "secret", secret]).await.is_ok())
        .await;
}

async fn restart_apiserver(cluster: &mut TestCluster) {
    let control_plane = cluster.cluster.control_plane_mut();
    control_plane.kill_apiserver().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    control_plane.restart_apiserver().await.unwrap();
}

/// Waits until the operator has observed the change and everything has rolled out.
async fn wait_for_rollout(cluster: &TestCluster) {
    cluster.wait_until("observed change", TIMEOUT, async || cluster.is_observed().await).await;
    for role in ["server", "processor"] {
        cluster.cluster.wait_until_ready(NAMESPACE, &format!("deployment/demo-{role}")).await.unwrap();
    }
}
