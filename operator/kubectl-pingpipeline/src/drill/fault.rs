//! What is broken, and how it is put right again.

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

/// How often to look whether the operator has put its hands in its pockets, and how long it may take.
const LOOK: Duration = Duration::from_millis(300);
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
pub(crate) enum Arguments {
    /// Delete a random pod, without a chance to say goodbye.
    Kill {
        /// Name of the pipeline.
        name: String,
        /// Of which part; may be repeated. postgres is its primary. Default: servers and processors.
        #[arg(long, value_enum, default_values_t = [Part::Server, Part::Processor])]
        target: Vec<Part>,
    },
    /// Empty the cache: delete all of its pods at once. With snapshots it comes back as old as the last of them instead.
    Flush {
        /// Name of the pipeline.
        name: String,
    },
    /// Cut the processors or the servers off a part, by ingest_role it out of their NetworkPolicy while the operator is
    /// suspended. Says when the network plugin did not enforce it.
    Partition(Partition),
}

#[derive(Args)]
pub(crate) struct Partition {
    /// Name of the pipeline.
    name: String,
    /// Who is cut off.
    #[arg(long, value_enum, default_value = "processor")]
    from: Ours,
    /// What they are cut off.
    #[arg(long, value_enum, default_value = "kafka")]
    target: Theirs,
    /// Seconds.
    #[arg(long = "for", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
}

/// A part with pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Server,
    Processor,
    Postgres,
    Kafka,
    Cache,
}

/// Parts whose way out our NetworkPolicies guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ours {
    Server,
    Processor,
}

/// Parts that they can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Theirs {
    Kafka,
    Cache,
}

impl Arguments {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Kill { name, .. } | Self::Flush { name } | Self::Partition(Partition { name, .. }) => name,
        }
    }
}

/// A fault that can happen to this pipeline.
#[derive(Debug)]
pub(crate) enum Fault {
    /// One of the pods that any of the selectors selects.
    Kill { selectors: Vec<String> },
    /// All pods that the selector selects.
    Flush { selector: String },
    /// No way from the pods of a NetworkPolicy to a part.
    Cut { pipeline: String, policy: String, from: Ours, off: Theirs, lasts: Duration },
}

impl Fault {
    /// The fault that was asked for. Errors: a part that the pipeline does not run itself.
    pub(crate) fn of(asked: &Arguments, pipeline: &PingPipeline) -> anyhow::Result<Self> {
        Ok(match asked {
            Arguments::Kill { target, .. } => {
                Self::Kill { selectors: target.iter().map(|part| selector(*part, pipeline)).collect::<Result<_, _>>()? }
            }
            Arguments::Flush { .. } => Self::Flush { selector: selector(Part::Cache, pipeline)? },
            Arguments::Partition(asked) => {
                let enabled = pipeline.spec.network_policy.enabled;
                ensure!(
                    enabled,
                    "spec.networkPolicy.enabled is false: there is no NetworkPolicy to take anything out of"
                );
                let component = match (asked.from, asked.target) {
                    (Ours::Processor, _) => "processor",
                    (Ours::Server, Theirs::Kafka) => ingest_role(&pipeline.spec.server).component(),
                    (Ours::Server, Theirs::Cache) => query_role(&pipeline.spec.server).component(),
                };
                Self::Cut {
                    pipeline: pipeline.name_any(),
                    policy: Names::of(pipeline).part(component),
                    from: asked.from,
                    off: asked.target,
                    lasts: Duration::from_secs(asked.seconds),
                }
            }
        })
    }

    /// Whether it is the network that is broken.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }

    /// Has it happen; when this returns it is over, and something has to recover. Says to what.
    pub(crate) async fn happen(&self, cluster: &Cluster) -> anyhow::Result<String> {
        match self {
            Self::Kill { selectors } => {
                let found = try_join_all(selectors.iter().map(|selector| pods(cluster, selector))).await?.concat();
                let pod = found.choose(&mut rand::rng()).context("there is no such pod")?;
                kill(cluster, pod).await?;
                Ok(format!("killed {pod}"))
            }
            Self::Flush { selector } => {
                let found = pods(cluster, selector).await?;
                ensure!(!found.is_empty(), "the cache has no pod");
                try_join_all(found.iter().map(|pod| kill(cluster, pod))).await?;
                Ok(format!("emptied {}", found.join(", ")))
            }
            Self::Cut { pipeline, policy, off, lasts, .. } => {
                suspend(cluster, pipeline).await?;
                cut(cluster, policy, *off).await?;
                tokio::time::sleep(*lasts).await;
                self.undo(cluster).await?;
                Ok(format!("cut {policy} off {off:?} for {lasts:?}").to_lowercase())
            }
        }
    }

    /// Takes back what would outlast this program. To be done again costs nothing.
    pub(crate) async fn undo(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if let Self::Cut { pipeline, .. } = self {
            // The operator puts its NetworkPolicy right as soon as it may.
            let goes_on = json!({ "spec": { "suspend": null } });
            cluster.pipelines().patch(pipeline, &PatchParams::default(), &Patch::Merge(goes_on)).await?;
        }
        Ok(())
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { selectors } => write!(f, "kill a pod with labels {}", selectors.join(" or ")),
            Self::Flush { selector } => write!(f, "empty the cache by killing every pod with labels {selector}"),
            Self::Cut { from, off, lasts, .. } => {
                write!(f, "{}", format!("cut every {from:?} off {off:?} for {lasts:?}").to_lowercase())
            }
        }
    }
}

/// Labels of a part's pods. Errors: the part is not the pipeline's own.
fn selector(part: Part, pipeline: &PingPipeline) -> anyhow::Result<String> {
    let (names, spec) = (Names::of(pipeline), &pipeline.spec);
    let ours = |components: &[&str]| {
        let labels = names.instance().into_iter().map(|(key, value)| format!("{key}={value}"));
        let component = format!("{COMPONENT_LABEL} in ({})", components.join(","));
        labels.chain([component]).collect::<Vec<_>>().join(",")
    };
    Ok(match part {
        Part::Server => {
            let roles = deployments(&spec.server).into_iter();
            ours(&roles.map(|(role, _)| role.component()).collect::<Vec<_>>())
        }
        Part::Processor => ours(&["processor"]),
        Part::Postgres if spec.postgres.external.is_none() => {
            format!("cnpg.io/cluster={},cnpg.io/instanceRole=primary", names.postgres())
        }
        Part::Kafka if spec.kafka.external.is_none() && spec.kafka.cluster_ref.is_none() => {
            format!("strimzi.io/name={}-kafka", names.kafka())
        }
        Part::Cache if spec.cache.external.is_none() => format!("app={}", names.cache()),
        Part::Postgres | Part::Kafka | Part::Cache => bail!(
            "{} does not run its own {}: break that by its own means, and run `kubectl pingpipeline verify` after it",
            names.pipeline,
            format!("{part:?}").to_lowercase()
        ),
    })
}

/// Names of the pods that are not about to go anyway.
async fn pods(cluster: &Cluster, selector: &str) -> anyhow::Result<Vec<String>> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = api.list(&ListParams::default().labels(selector)).await?;
    Ok(found.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|pod| pod.name_any()).collect())
}

async fn kill(cluster: &Cluster, pod: &str) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match api.delete(pod, &DeleteParams::default().grace_period(0)).await {
        // Somebody was faster.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot delete pod {pod}")),
        Ok(_) => Ok(()),
    }
}

/// Returns when the operator has seen that it may change nothing.
async fn suspend(cluster: &Cluster, pipeline: &str) -> anyhow::Result<()> {
    let pipelines = cluster.pipelines();
    let stop = json!({ "spec": { "suspend": true } });
    let generation = pipelines.patch(pipeline, &PatchParams::default(), &Patch::Merge(stop)).await?.metadata.generation;
    let taken_up = async {
        while pipelines.get(pipeline).await?.status.and_then(|status| status.observed_generation) < generation {
            tokio::time::sleep(LOOK).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(TAKEN_UP_WITHIN, taken_up).await.context("the operator does not answer: is it running?")?
}

async fn cut(cluster: &Cluster, policy: &str, off: Theirs) -> anyhow::Result<()> {
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = policies.get(policy).await.with_context(|| format!("cannot read NetworkPolicy {policy}"))?;
    let egress = found.spec.and_then(|spec| spec.egress).unwrap_or_default();
    let (before, left) = (egress.len(), without(egress, off));
    ensure!(
        left.len() < before,
        "NetworkPolicy {policy} has no rule of its own for that part: it is not the pipeline's own"
    );
    let patch = Patch::Merge(json!({ "spec": { "egress": left } }));
    policies.patch(policy, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The rules that do not lead to pods of `off`. Pure.
fn without(egress: Vec<NetworkPolicyEgressRule>, off: Theirs) -> Vec<NetworkPolicyEgressRule> {
    let label = match off {
        Theirs::Kafka => "strimzi.io/cluster",
        Theirs::Cache => "app",
    };
    let leads_there = |rule: &NetworkPolicyEgressRule| {
        rule.to.iter().flatten().any(|peer| {
            let labels = peer.pod_selector.as_ref().and_then(|pods| pods.match_labels.as_ref());
            labels.is_some_and(|labels| labels.contains_key(label))
        })
    };
    egress.into_iter().filter(|rule| !leads_there(rule)).collect()
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
    fn only_own_parts_are_killed() {
        let own = pipeline(json!({}));
        assert_eq!(selector(Part::Cache, &own).unwrap(), "app=demo-cache");
        assert!(selector(Part::Server, &own).unwrap().ends_with("app.kubernetes.io/component in (server)"));
        let apart = pipeline(json!({ "server": { "query": {} } }));
        assert!(selector(Part::Server, &apart).unwrap().ends_with("in (ingest,query)"));
        let foreign = pipeline(json!({ "kafka": { "clusterRef": { "name": "big", "namespace": "kafka" } } }));
        let error = selector(Part::Kafka, &foreign).unwrap_err().to_string();
        assert!(error.contains("demo does not run its own kafka"), "{error}");
        assert!(selector(Part::Postgres, &foreign).is_ok());
    }

    #[test]
    fn a_cut_takes_one_part_out_of_the_way_out() {
        let rule = |labels: Value| json!({ "to": [{ "podSelector": { "matchLabels": labels } }] });
        let names = json!({ "to": [{ "namespaceSelector": {} }], "ports": [{ "port": 53 }] });
        let rules = json!([
            names,
            rule(json!({ "cnpg.io/cluster": "p" })),
            rule(json!({ "strimzi.io/cluster": "k" })),
            rule(json!({ "app": "c" }))
        ]);
        let egress: Vec<NetworkPolicyEgressRule> = serde_json::from_value(rules).unwrap();
        assert_eq!(without(egress.clone(), Theirs::Kafka), [&egress[..2], &egress[3..]].concat());
        assert_eq!(without(egress.clone(), Theirs::Cache), egress[..3]);
    }
}
