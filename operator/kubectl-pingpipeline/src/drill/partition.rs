//! Partitions: NetworkPolicies without a rule, and pods that have to open their connections again, because most network plugins check
//! connections only when they are opened.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use k8s_openapi::api::{
    core::v1::Pod,
    networking::v1::{NetworkPolicy, NetworkPolicyEgressRule},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use ping_api::crd::PingPipeline;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{fields, pods, server::Server, watch::is_late};
use crate::cluster::Cluster;

/// Annotation of a pipeline that a drill has suspended.
const DRILL_ANNOTATION: &str = "pingpipeline.io/drill";
/// Interval between checks.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Time until the operator must have suspended the pipeline.
const SUSPEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Time until all pods must have been replaced: their grace period, and the start of new ones.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(180);
/// A plugin may admit the connections of a new pod until it knows its address. Then the pods are replaced again.
const ATTEMPTS: usize = 3;
/// Time for which counts must be late. Longer than the replacement of pods delays them.
const LATE_FOR: Duration = Duration::from_secs(5);
/// Time until counts must be late, if traffic is blocked.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Components that a partition can block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    Kafka,
    Cache,
}

/// Blocks new connections to `target` with NetworkPolicy `policy`, and closes open ones by replacing the pods that `selector` matches.
/// Leaves the pipeline suspended, also after an error. Only the counts show whether traffic is blocked.
pub(super) async fn block(
    cluster: &Cluster,
    server: &Server,
    pipeline: &str,
    (policy, selector): (&str, &str),
    target: Target,
) -> anyhow::Result<()> {
    suspend(cluster, pipeline).await?;
    remove_rule(cluster, policy, target).await?;
    for _ in 0..ATTEMPTS {
        replace_pods(cluster, selector).await?;
        if counts_stay_late(server).await {
            break;
        }
    }
    Ok(())
}

/// Lets the operator restore the NetworkPolicy, unless someone else has suspended the pipeline, too. Returns the pipeline if a drill had
/// suspended it. Can be called repeatedly.
pub(super) async fn unblock(cluster: &Cluster, pipeline: &str) -> anyhow::Result<Option<PingPipeline>> {
    fields::remove(&cluster.pipelines(), pipeline).await
}

/// Suspends the pipeline, and returns when the operator has observed it.
async fn suspend(cluster: &Cluster, pipeline: &str) -> anyhow::Result<()> {
    let pipelines = cluster.pipelines();
    let suspended = fields::add(&pipelines, pipeline, &suspension(pipeline)).await;
    let generation = suspended.with_context(|| format!("cannot suspend {pipeline}"))?.metadata.generation;
    let observed = async {
        while pipelines.get(pipeline).await?.status.and_then(|status| status.observed_generation) < generation {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SUSPEND_TIMEOUT, observed)
        .await
        .context("the operator does not respond; check that it is running")?
}

/// The suspension, and for people who find it, where it comes from. Pure.
fn suspension(pipeline: &str) -> Value {
    let note = "suspended by drill partition; kubectl pingpipeline drill undo ends it";
    json!({
        "apiVersion": PingPipeline::api_version(&()), "kind": PingPipeline::kind(&()),
        "metadata": { "name": pipeline, "annotations": { DRILL_ANNOTATION: note } },
        "spec": { "suspend": true },
    })
}

async fn remove_rule(cluster: &Cluster, policy: &str, target: Target) -> anyhow::Result<()> {
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = policies.get(policy).await.with_context(|| format!("cannot read NetworkPolicy {policy}"))?;
    let egress = found.spec.and_then(|spec| spec.egress).unwrap_or_default();
    let (before, left) = (egress.len(), without(egress, target));
    ensure!(
        left.len() < before,
        "NetworkPolicy {policy} has no rule for this component, because the pipeline does not manage it"
    );
    let patch = Patch::Merge(json!({ "spec": { "egress": left } }));
    policies.patch(policy, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The rules that do not allow traffic to `target`. Pure.
fn without(egress: Vec<NetworkPolicyEgressRule>, target: Target) -> Vec<NetworkPolicyEgressRule> {
    let label = match target {
        Target::Kafka => "strimzi.io/cluster",
        Target::Cache => "app",
    };
    let allows_target = |rule: &NetworkPolicyEgressRule| {
        rule.to.iter().flatten().any(|peer| {
            let labels = peer.pod_selector.as_ref().and_then(|pods| pods.match_labels.as_ref());
            labels.is_some_and(|labels| labels.contains_key(label))
        })
    };
    egress.into_iter().filter(|rule| !allows_target(rule)).collect()
}

/// Deletes the pods with their grace period, so that they finish what they do, and returns when as many others run.
async fn replace_pods(cluster: &Cluster, selector: &str) -> anyhow::Result<()> {
    let before: Vec<String> = pods::find(cluster, selector).await?.iter().map(ResourceExt::name_any).collect();
    ensure!(!before.is_empty(), "no pod with labels {selector}");
    for pod in &before {
        pods::delete(cluster, pod, None).await?;
    }
    let started = Instant::now();
    while !are_replaced(&before, &pods::find(cluster, selector).await?) {
        if started.elapsed() > REPLACE_TIMEOUT {
            bail!("the pods with labels {selector} were not replaced within {REPLACE_TIMEOUT:?}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// True if none of the pods `before` is left, and as many others run. Pure.
fn are_replaced(before: &[String], now: &[Pod]) -> bool {
    let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    now.iter().all(|pod| !before.contains(&pod.name_any()))
        && now.iter().filter(|pod| runs(pod)).count() >= before.len()
}

/// True as soon as counts have been late for some time.
async fn counts_stay_late(server: &Server) -> bool {
    let (started, mut last_fresh) = (Instant::now(), Instant::now());
    while started.elapsed() < EFFECT_TIMEOUT {
        if !is_late(server.freshness().await.ok()) {
            last_fresh = Instant::now();
        } else if last_fresh.elapsed() > LATE_FOR {
            return true;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_removes_the_rule_for_one_component() {
        let rule = |labels: Value| json!({ "to": [{ "podSelector": { "matchLabels": labels } }] });
        let names = json!({ "to": [{ "namespaceSelector": {} }], "ports": [{ "port": 53 }] });
        let rules = json!([
            names,
            rule(json!({ "cnpg.io/cluster": "p" })),
            rule(json!({ "strimzi.io/cluster": "k" })),
            rule(json!({ "app": "c" }))
        ]);
        let egress: Vec<NetworkPolicyEgressRule> = serde_json::from_value(rules).unwrap();
        assert_eq!(without(egress.clone(), Target::Kafka), [&egress[..2], &egress[3..]].concat());
        assert_eq!(without(egress.clone(), Target::Cache), egress[..3]);
    }

    #[test]
    fn pods_are_replaced_when_the_old_ones_are_gone_and_as_many_run() {
        let pods = |pods: &[(&str, &str)]| -> Vec<Pod> {
            let pod =
                |(name, phase): &(&str, &str)| json!({ "metadata": { "name": name }, "status": { "phase": phase } });
            serde_json::from_value(pods.iter().map(pod).collect()).unwrap()
        };
        let before = ["a".to_owned(), "b".to_owned()];
        for (now, replaced) in [
            (pods(&[("a", "Running"), ("c", "Running"), ("d", "Running")]), false),
            (pods(&[("c", "Running"), ("d", "Pending")]), false),
            (pods(&[]), false),
            (pods(&[("c", "Running"), ("d", "Running")]), true),
        ] {
            assert_eq!(are_replaced(&before, &now), replaced, "{now:?}");
        }
    }
}
