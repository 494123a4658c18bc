//! What happens to the pipeline, one after the other, each under load.

use std::time::{Duration, Instant};

use crate::{
    at,
    load::Load,
    report::Report,
    stage::{NAMESPACE, Stage},
};

const PATIENCE: Duration = Duration::from_secs(300);

/// A macro, for some of what happens needs the stage to itself.
macro_rules! under_load {
    ($stage:ident, $report:ident, $name:expr, $happening:expr) => {{
        if is_asked_for($name) {
            let load = Load::start($stage).await;
            $happening;
            let outcome = load.finish($stage).await;
            $report.add($name, outcome);
        }
    }};
}

/// `FAULTS=words` picks those with one of the words, between commas, in their names; all of them without it.
pub(crate) fn is_asked_for(name: &str) -> bool {
    std::env::var("FAULTS").map_or(true, |words| words.split(',').any(|word| name.contains(word)))
}

/// All of it, in the order in which a pipeline might meet it.
pub(crate) async fn all(stage: &mut Stage) -> Report {
    let mut report = Report::default();
    for (role, what) in [("server", "every server pod killed"), ("processor", "every processor pod killed")] {
        under_load!(stage, report, what, kill(stage, NAMESPACE, &format!("app.kubernetes.io/component={role}")).await);
    }
    under_load!(
        stage,
        report,
        "every operator pod killed",
        kill(stage, "ping-system", "app.kubernetes.io/name=ping-operator").await
    );
    under_load!(stage, report, "the Postgres primary killed", kill_primary(stage).await);
    under_load!(stage, report, "Kafka killed", kill(stage, NAMESPACE, "strimzi.io/kind=Kafka").await);
    under_load!(stage, report, "the cache killed", kill(stage, NAMESPACE, "app=demo-cache").await);
    under_load!(stage, report, "a node drained", drain(stage, "ping-node-2").await);
    stage.kubectl(&["uncordon", "ping-node-2"]).await;
    under_load!(stage, report, "the operator upgraded", upgrade_operator(stage).await);
    under_load!(stage, report, "the data plane upgraded: image and settings", upgrade_data_plane(stage).await);
    under_load!(stage, report, "scaled from 2 + 2 to 3 + 3, re-partitioned from 3 to 6", scale(stage).await);
    under_load!(stage, report, "hibernated and woken", hibernate(stage).await);
    under_load!(stage, report, "Kafka's password of the servers rotated", rotate(stage, "demo-kafka-server").await);
    under_load!(stage, report, "Postgres' password rotated", rotate(stage, "demo-postgres-app").await);
    under_load!(stage, report, "the API server killed and started again", restart_apiserver(stage).await);
    report
}

/// Without a chance to say goodbye.
async fn kill(stage: &Stage, namespace: &str, selector: &str) {
    let killed = stage
        .kubectl(&["delete", "pods", "--force", "--grace-period=0", "--selector", selector, "--namespace", namespace])
        .await;
    assert!(killed.contains("deleted"), "nothing is {selector}: {killed}");
}

async fn kill_primary(stage: &Stage) {
    let cluster = stage.json(&["get", "clusters.postgresql.cnpg.io", "demo-postgres"]).await;
    let primary = at(&cluster, "/status/currentPrimary").as_str().unwrap().to_owned();
    stage.kubectl(&["delete", "pod", "--force", "--grace-period=0", &primary]).await;
    let other = async || {
        let cluster = stage.json(&["get", "clusters.postgresql.cnpg.io", "demo-postgres"]).await;
        at(&cluster, "/status/currentPrimary").as_str() != Some(&primary)
    };
    stage.until("other primary", PATIENCE, other).await;
}

/// Budgets are respected: kubectl asks again until CloudNativePG has moved the primary.
async fn drain(stage: &Stage, node: &str) {
    let arguments = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s"];
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = stage.try_kubectl(&arguments).await {
        assert!(Instant::now() < deadline, "{error:#}");
    }
}

async fn upgrade_operator(stage: &Stage) {
    let selector = "app.kubernetes.io/name=ping-operator";
    let before = stage.image_ids("ping-system", selector).await;
    stage
        .helm(&["upgrade", "ping-operator", "charts/ping-operator", "--set=image.tag=next", "--wait", "--timeout=5m"])
        .await;
    stage.until_other_images("ping-system", selector, &before).await;
}

async fn upgrade_data_plane(stage: &Stage) {
    let next = r#""image": "pingpipeline/pingd:next""#;
    let spec = format!(
        r#"{{"spec": {{"server": {{{next}, "lanes": 2}}, "processor": {{{next}, "flush": {{"intervalMs": 50}}}}}}}}"#
    );
    let selector = "app.kubernetes.io/component in (server, processor)";
    let before = stage.image_ids(NAMESPACE, selector).await;
    stage.patch(&spec).await;
    settle(stage).await;
    stage.until_other_images(NAMESPACE, selector, &before).await;
}

async fn scale(stage: &Stage) {
    let spec =
        r#"{"spec": {"server": {"replicas": 3}, "processor": {"replicas": 3}, "kafka": {"topic": {"partitions": 6}}}}"#;
    stage.patch(spec).await;
    settle(stage).await;
}

async fn hibernate(stage: &Stage) {
    stage.patch(r#"{"spec": {"hibernate": true}}"#).await;
    let asleep = async || {
        let pods = stage.json(&["get", "pods", "--selector=app.kubernetes.io/component in (server, processor)"]).await;
        let instances =
            stage.json(&["get", "pods", "--selector=cnpg.io/cluster=demo-postgres,cnpg.io/podRole=instance"]).await;
        [pods, instances].iter().all(|pods| pods["items"].as_array().is_some_and(Vec::is_empty))
    };
    stage.until("sleep", PATIENCE, asleep).await;
    stage.patch(r#"{"spec": {"hibernate": false}}"#).await;
}

/// The operator that owns the Secret makes it anew, with another password.
async fn rotate(stage: &Stage, secret: &str) {
    stage.kubectl(&["delete", "secret", secret]).await;
    stage.until("new secret", PATIENCE, async || stage.try_kubectl(&["get", "secret", secret]).await.is_ok()).await;
}

async fn restart_apiserver(stage: &mut Stage) {
    let control_plane = stage.cluster.control_plane_mut();
    control_plane.kill_apiserver().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    control_plane.restart_apiserver().await.unwrap();
}

/// Until the operator has seen what was asked, and everything has rolled out.
async fn settle(stage: &Stage) {
    stage.until("change taken up", PATIENCE, async || stage.is_observed().await).await;
    for role in ["server", "processor"] {
        stage.cluster.until_ready(NAMESPACE, &format!("deployment/demo-{role}")).await.unwrap();
    }
}
