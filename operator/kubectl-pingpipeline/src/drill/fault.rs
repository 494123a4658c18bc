//! Faults, and how they are undone.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use futures::future::try_join_all;
use k8s_openapi::api::{
    core::v1::Pod,
    networking::v1::{NetworkPolicy, NetworkPolicyEgressRule},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use ping_api::{
    crd::PingPipeline,
    names::{COMPONENT_LABEL, Names},
    roles::{deployments, ingest_role, query_role},
};
use rand::seq::IndexedRandom;
use serde_json::json;

use crate::cluster::Cluster;

/// Interval between checks whether the operator has suspended the pipeline.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Time until the operator must have suspended the pipeline.
const SUSPEND_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
pub(crate) enum Arguments {
    /// Kill a random pod: delete it without a grace period.
    Kill {
        /// Name of the pipeline.
        name: String,
        /// Component to kill; can be repeated. `postgres` means its primary. Default: servers and processors.
        #[arg(long, value_enum, default_values_t = [Component::Server, Component::Processor])]
        target: Vec<Component>,
    },
    /// Empty the cache by deleting all of its pods at once. A cache with snapshots starts from the latest snapshot instead.
    Flush {
        /// Name of the pipeline.
        name: String,
    },
    /// Block traffic from processors or servers to a component: remove it from their NetworkPolicy while the operator is suspended.
    /// Reports if the network plugin did not enforce the policy.
    Partition(PartitionArguments),
}

#[derive(Args)]
pub(crate) struct PartitionArguments {
    /// Name of the pipeline.
    name: String,
    /// Component that loses its connection.
    #[arg(long, value_enum, default_value = "processor")]
    from: Workload,
    /// Component that becomes unreachable.
    #[arg(long, value_enum, default_value = "kafka")]
    target: Target,
    /// Duration in seconds.
    #[arg(long = "for", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
}

/// A component with pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Component {
    Server,
    Processor,
    Postgres,
    Kafka,
    Cache,
}

/// Components with an egress NetworkPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    Server,
    Processor,
}

/// Components that a partition can block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    Kafka,
    Cache,
}

impl Arguments {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Kill { name, .. } | Self::Flush { name } | Self::Partition(PartitionArguments { name, .. }) => name,
        }
    }
}

/// A fault for a specific pipeline.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Kills one pod that matches any of the selectors.
    Kill { selectors: Vec<String> },
    /// Kills all pods that match the selector.
    Flush { selector: String },
    /// Blocks traffic from the pods of a NetworkPolicy to a component.
    Partition { pipeline: String, policy: String, from: Workload, target: Target, duration: Duration },
}

impl Fault {
    /// The requested fault. Fails if the component is not managed by the pipeline.
    pub(crate) fn of(arguments: &Arguments, pipeline: &PingPipeline) -> anyhow::Result<Self> {
        Ok(match arguments {
            Arguments::Kill { target, .. } => Self::Kill {
                selectors: target.iter().map(|component| selector(*component, pipeline)).collect::<Result<_, _>>()?,
            },
            Arguments::Flush { .. } => Self::Flush { selector: selector(Component::Cache, pipeline)? },
            Arguments::Partition(arguments) => {
                let enabled = pipeline.spec.network_policy.enabled;
                ensure!(enabled, "spec.networkPolicy.enabled is false, so there is no NetworkPolicy to change");
                let component = match (arguments.from, arguments.target) {
                    (Workload::Processor, _) => "processor",
                    (Workload::Server, Target::Kafka) => ingest_role(&pipeline.spec.server).component(),
                    (Workload::Server, Target::Cache) => query_role(&pipeline.spec.server).component(),
                };
                Self::Partition {
                    pipeline: pipeline.name_any(),
                    policy: Names::of(pipeline).part(component),
                    from: arguments.from,
                    target: arguments.target,
                    duration: Duration::from_secs(arguments.seconds),
                }
            }
        })
    }

    /// True if the fault blocks network traffic.
    pub(crate) fn is_partition(&self) -> bool {
        matches!(self, Self::Partition { .. })
    }

    /// Causes the fault. When this returns, the fault is over and the pipeline has to recover. Returns a description.
    pub(crate) async fn inject(&self, cluster: &Cluster) -> anyhow::Result<String> {
        match self {
            Self::Kill { selectors } => {
                let found = try_join_all(selectors.iter().map(|selector| pods(cluster, selector))).await?.concat();
                let pod = found.choose(&mut rand::rng()).context("no matching pod")?;
                kill(cluster, pod).await?;
                Ok(format!("killed {pod}"))
            }
            Self::Flush { selector } => {
                let found = pods(cluster, selector).await?;
                ensure!(!found.is_empty(), "the cache has no pods");
                try_join_all(found.iter().map(|pod| kill(cluster, pod))).await?;
                Ok(format!("emptied {}", found.join(", ")))
            }
            Self::Partition { pipeline, policy, target, duration, .. } => {
                suspend(cluster, pipeline).await?;
                block(cluster, policy, *target).await?;
                tokio::time::sleep(*duration).await;
                self.undo(cluster).await?;
                Ok(format!("blocked {policy} from {target:?} for {duration:?}").to_lowercase())
            }
        }
    }

    /// Undoes what would outlast this program. Can be called repeatedly.
    pub(crate) async fn undo(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if let Self::Partition { pipeline, .. } = self {
            // The operator restores the NetworkPolicy when it is no longer suspended.
            let resume = json!({ "spec": { "suspend": null } });
            cluster.pipelines().patch(pipeline, &PatchParams::default(), &Patch::Merge(resume)).await?;
        }
        Ok(())
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { selectors } => write!(f, "kill a pod with labels {}", selectors.join(" or ")),
            Self::Flush { selector } => write!(f, "empty the cache by killing all pods with labels {selector}"),
            Self::Partition { from, target, duration, .. } => {
                write!(f, "{}", format!("block every {from:?} from {target:?} for {duration:?}").to_lowercase())
            }
        }
    }
}

/// Label selector for the pods of a component. Fails if the component is not managed by the pipeline.
fn selector(component: Component, pipeline: &PingPipeline) -> anyhow::Result<String> {
    let (names, spec) = (Names::of(pipeline), &pipeline.spec);
    let own = |components: &[&str]| {
        let labels = names.instance().into_iter().map(|(key, value)| format!("{key}={value}"));
        let component = format!("{COMPONENT_LABEL} in ({})", components.join(","));
        labels.chain([component]).collect::<Vec<_>>().join(",")
    };
    Ok(match component {
        Component::Server => {
            let roles = deployments(&spec.server).into_iter();
            own(&roles.map(|(role, _)| role.component()).collect::<Vec<_>>())
        }
        Component::Processor => own(&["processor"]),
        Component::Postgres if spec.postgres.external.is_none() => {
            format!("cnpg.io/cluster={},cnpg.io/instanceRole=primary", names.postgres())
        }
        Component::Kafka if spec.kafka.external.is_none() && spec.kafka.cluster_ref.is_none() => {
            format!("strimzi.io/name={}-kafka", names.kafka())
        }
        Component::Cache if spec.cache.external.is_none() => format!("app={}", names.cache()),
        Component::Postgres | Component::Kafka | Component::Cache => bail!(
            "{} does not run its own {}. Cause the failure by other means, then run `kubectl pingpipeline verify`",
            names.pipeline,
            format!("{component:?}").to_lowercase()
        ),
    })
}

/// Names of the matching pods that are not being deleted.
async fn pods(cluster: &Cluster, selector: &str) -> anyhow::Result<Vec<String>> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = api.list(&ListParams::default().labels(selector)).await?;
    Ok(found.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|pod| pod.name_any()).collect())
}

async fn kill(cluster: &Cluster, pod: &str) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match api.delete(pod, &DeleteParams::default().grace_period(0)).await {
        // The pod is gone already.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot delete pod {pod}")),
        Ok(_) => Ok(()),
    }
}

/// Suspends the pipeline, and returns when the operator has observed it.
async fn suspend(cluster: &Cluster, pipeline: &str) -> anyhow::Result<()> {
    let pipelines = cluster.pipelines();
    let patch = json!({ "spec": { "suspend": true } });
    let generation =
        pipelines.patch(pipeline, &PatchParams::default(), &Patch::Merge(patch)).await?.metadata.generation;
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

async fn block(cluster: &Cluster, policy: &str, target: Target) -> anyhow::Result<()> {
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn pipeline(spec: Value) -> PingPipeline {
        serde_json::from_value(json!({
            "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline", "metadata": { "name": "demo" }, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn only_managed_components_are_killed() {
        let own = pipeline(json!({}));
        assert_eq!(selector(Component::Cache, &own).unwrap(), "app=demo-cache");
        assert!(selector(Component::Server, &own).unwrap().ends_with("app.kubernetes.io/component in (server)"));
        let split = pipeline(json!({ "server": { "query": {} } }));
        assert!(selector(Component::Server, &split).unwrap().ends_with("in (ingest,query)"));
        let shared = pipeline(json!({ "kafka": { "clusterRef": { "name": "big", "namespace": "kafka" } } }));
        let error = selector(Component::Kafka, &shared).unwrap_err().to_string();
        assert!(error.contains("demo does not run its own kafka"), "{error}");
        assert!(selector(Component::Postgres, &shared).is_ok());
    }

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
}
