//! Delays: a hop in front of a component, in the pods of servers or processors. The hop is `pingd delay` from the pods' own image, so it
//! needs no privileges and nothing of the kernel. Names of the component lead to the hop, so certificates remain valid.
//!
//! The hop is added to the Deployment as fields of their own manager, which the operator ignores and which are removed together. It stops to
//! delay at a fixed time, so a drill that is killed leaves a hop that only forwards; `drill undo` removes it.

use std::{
    fmt::{self, Display, Formatter},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Container};
use kube::{Api, api::LogParams};
use ping_api::names::Names;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    component::{Component, Workload},
    fields, pods,
    server::Server,
};
use crate::cluster::Cluster;

/// The hop's container.
const HOP: &str = "drill-delay";
/// What the hop logs when the first connection passes it.
const PASSED: &str = "delays connections";
/// Interval between checks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time until all pods must have been replaced by others with the hop, and use it.
const ROLLOUT_TIME: Duration = Duration::from_secs(300);
/// Ports of the components, as the operator sets them up.
const POSTGRES_PORT: u16 = 5432;
const KAFKA_PORT: u16 = 9093;
const CACHE_PORT: u16 = 6379;

#[derive(Args)]
pub(crate) struct DelayArguments {
    /// Name of the pipeline.
    pub(super) name: String,
    /// Component whose connections become slow.
    #[arg(long, value_enum, default_value = "server")]
    pub(super) from: Workload,
    /// Component to which they go.
    #[arg(long, value_enum, default_value = "postgres")]
    pub(super) target: Target,
    /// Additional milliseconds in each direction.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    milliseconds: u64,
    /// Duration in seconds.
    #[arg(long = "for", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
}

/// Components that servers and processors connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    Postgres,
    Kafka,
    Cache,
}

impl From<Target> for Component {
    fn from(target: Target) -> Self {
        match target {
            Target::Postgres => Self::Postgres,
            Target::Kafka => Self::Kafka,
            Target::Cache => Self::Cache,
        }
    }
}

/// A link that is slow for some time.
#[derive(Clone, Debug)]
pub(crate) struct Delay {
    names: Names,
    from: Workload,
    target: Target,
    /// Component label of the pods whose connections are slow.
    component: &'static str,
    /// Selects the pods of the target.
    target_pods: String,
    milliseconds: u64,
    duration: Duration,
}

impl Delay {
    pub(super) fn new(arguments: &DelayArguments, names: Names, component: &'static str, target_pods: String) -> Self {
        let DelayArguments { from, target, milliseconds, seconds, .. } = *arguments;
        Self { names, from, target, component, target_pods, milliseconds, duration: Duration::from_secs(seconds) }
    }

    /// Adds the hop, and returns when all pods use it.
    pub(super) async fn start(&self, cluster: &Cluster, server: &Server) -> anyhow::Result<()> {
        let name = self.names.part(self.component);
        let deployments = deployments(cluster);
        let found = deployments.get(&name).await.with_context(|| format!("cannot read Deployment {name}"))?;
        let template = found.spec.and_then(|spec| spec.template.spec).unwrap_or_default();
        let program = template.containers.first().with_context(|| format!("Deployment {name} has no container"))?;
        let brokers = match self.target {
            Target::Kafka => pods::remaining(cluster, &self.target_pods).await?,
            Target::Postgres | Target::Cache => Vec::new(),
        };
        let until = SystemTime::now() + ROLLOUT_TIME + self.duration;
        let until = until.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let patch = self.patch(&name, program, &self.links(&brokers), until);
        fields::add(&deployments, &name, &patch)
            .await
            .with_context(|| format!("cannot add a hop to Deployment {name}"))?;
        let image = program.image.as_deref().unwrap_or_default();
        timeout(ROLLOUT_TIME, self.used(cluster, server, &name)).await.with_context(|| {
            format!(
                "no pod of {name} with the hop uses it after {ROLLOUT_TIME:?}. See `kubectl describe pods`: the image {image} may be \
                 older than `pingd delay`, or a quota may not admit the container {HOP}"
            )
        })?
    }

    /// Where the hop listens, and where each name leads. The two spellings of a name differ, so that the hop does not find itself.
    fn links(&self, brokers: &[String]) -> Vec<HopLink> {
        let namespace = &self.names.namespace;
        // As CloudNativePG, the operator and Strimzi spell them.
        let (names, port): (Vec<(String, String)>, u16) = match self.target {
            Target::Postgres => {
                let short = format!("{}-rw.{namespace}", self.names.postgres());
                (vec![(short.clone(), format!("{short}.svc"))], POSTGRES_PORT)
            }
            Target::Cache => {
                let short = format!("{}.{namespace}", self.names.cache());
                (vec![(format!("{short}.svc"), short)], CACHE_PORT)
            }
            Target::Kafka => {
                let kafka = self.names.kafka();
                let bootstrap = format!("{kafka}-kafka-bootstrap.{namespace}");
                let brokers = brokers.iter().map(|pod| format!("{pod}.{kafka}-kafka-brokers.{namespace}"));
                let both = |short: String| (format!("{short}.svc"), short);
                ([bootstrap].into_iter().chain(brokers).map(both).collect(), KAFKA_PORT)
            }
        };
        let number = |(index, (name, to)): (usize, (String, String))| {
            let (high, low) = (index / 250, index % 250 + 1);
            HopLink { address: format!("127.0.{}.{low}", 53 + high), name, to, port }
        };
        names.into_iter().enumerate().map(number).collect()
    }

    /// The fields of the hop. Pure.
    fn patch(&self, deployment: &str, program: &Container, links: &[HopLink], until: u64) -> Value {
        let aliases = links.iter().map(|link| json!({ "ip": link.address, "hostnames": [link.name] }));
        let mut arguments = vec![
            "delay".to_owned(),
            format!("--milliseconds={}", self.milliseconds),
            format!("--until={until}"),
            // Each connection is its own task, which waits nearly always.
            "--threads=1".to_owned(),
        ];
        arguments.extend(links.iter().map(|link| format!("--link={0}:{2}={1}:{2}", link.address, link.to, link.port)));
        // An init container that restarts runs before and after the program, so draining programs still reach the component.
        let hop = json!({
            "name": HOP, "image": program.image, "imagePullPolicy": program.image_pull_policy, "restartPolicy": "Always",
            "command": ["pingd"], "args": arguments, "securityContext": program.security_context,
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "256Mi" } },
        });
        let spec = json!({ "hostAliases": aliases.collect::<Vec<_>>(), "initContainers": [hop] });
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": deployment },
            "spec": { "template": { "spec": spec } },
        })
    }

    /// Returns when all pods are new and connections pass the hop of each.
    async fn used(&self, cluster: &Cluster, server: &Server, name: &str) -> anyhow::Result<()> {
        rolled_out(cluster, name).await?;
        let selector = self.selector();
        let logs = LogParams { container: Some(HOP.to_owned()), limit_bytes: Some(64 * 1024), ..LogParams::default() };
        for pod in pods::remaining(cluster, &selector).await? {
            // A pod that the Deployment has replaced meanwhile has no log.
            while pods::remaining(cluster, &selector).await?.contains(&pod) {
                let log = pods::api(cluster).logs(&pod, &logs).await;
                if log.with_context(|| format!("cannot read the log of {HOP} in pod {pod}"))?.contains(PASSED) {
                    break;
                }
                // A server connects to the cache when it is asked for a count. Whether it has an answer does not matter here.
                let _ = server.freshness().await;
                sleep(POLL_INTERVAL).await;
            }
        }
        Ok(())
    }

    fn selector(&self) -> String {
        let labels = self.names.selector(self.component);
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    /// Waits while connections are slow, removes the hop, and returns when all pods are without it. Returns a description.
    pub(super) async fn hold(&self, cluster: &Cluster) -> anyhow::Result<String> {
        sleep(self.duration).await;
        self.stop(cluster).await?;
        let (from, target, milliseconds) = (self.names.part(self.component), self.target, self.milliseconds);
        let replaced = timeout(ROLLOUT_TIME, rolled_out(cluster, &from)).await;
        replaced.with_context(|| format!("the pods of {from} were not replaced within {ROLLOUT_TIME:?}"))??;
        Ok(format!("{from} to {target:?}: +{milliseconds} ms, {:?}", self.duration).to_lowercase())
    }

    /// Removes the hop, if there is one. Can be called repeatedly.
    pub(super) async fn stop(&self, cluster: &Cluster) -> anyhow::Result<()> {
        remove(cluster, &self.names.part(self.component)).await.map(drop)
    }
}

impl Display for Delay {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (from, target) = (format!("{:?}", self.from).to_lowercase(), format!("{:?}", self.target).to_lowercase());
        let (milliseconds, duration) = (self.milliseconds, self.duration);
        write!(
            f,
            "delay connections of every {from} to {target} by {milliseconds} ms in each direction for {duration:?}"
        )
    }
}

/// Removes the hop that a drill left in a Deployment. Returns whether there was one.
pub(super) async fn remove(cluster: &Cluster, deployment: &str) -> anyhow::Result<bool> {
    Ok(fields::remove(&deployments(cluster), deployment).await?.is_some())
}

fn deployments(cluster: &Cluster) -> Api<Deployment> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// One name, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HopLink {
    /// Where the hop listens, in the pod.
    address: String,
    /// The name by which programs connect.
    name: String,
    /// Another name of the same target.
    to: String,
    port: u16,
}

/// Returns when the pods of a Deployment are of its latest template.
async fn rolled_out(cluster: &Cluster, deployment: &str) -> anyhow::Result<()> {
    while !is_rolled_out(&deployments(cluster).get(deployment).await?) {
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// True if all pods are of the latest template and available. Pure.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let (Some(spec), Some(status)) = (&deployment.spec, &deployment.status) else { return false };
    let wanted = Some(spec.replicas.unwrap_or(1));
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
}

#[cfg(test)]
mod tests;
