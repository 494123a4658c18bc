//! Faults, and how they are undone.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use futures::future::try_join_all;
use kube::ResourceExt;
use ping_api::{crd::PingPipeline, names::Names};
use rand::seq::IndexedRandom;

use super::{
    component::{Component, Workload, component, selector},
    delay::{Delay, DelayArguments},
    disk::{Disk, DiskArguments},
    partition::{self, Target},
    pods,
    server::Server,
};
use crate::cluster::Cluster;

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
    /// Block traffic from processors or servers to a component: remove it from their NetworkPolicy while the operator is suspended, and replace
    /// their pods, because most network plugins do not block open connections. Reports if the plugin did not enforce the policy.
    Partition(PartitionArguments),
    /// Delay traffic from servers or processors to a component in both directions: a hop in their pods forwards it. Replaces the pods twice.
    Delay(DelayArguments),
    /// Slow down or fill the volume of Postgres or Kafka: a script in the container writes to a file that vanishes with the script.
    Disk(DiskArguments),
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

impl Arguments {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Kill { name, .. }
            | Self::Flush { name }
            | Self::Partition(PartitionArguments { name, .. })
            | Self::Delay(DelayArguments { name, .. })
            | Self::Disk(DiskArguments { name, .. }) => name,
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
    /// Blocks traffic from the pods of a NetworkPolicy, which the selector matches, to a component.
    Partition { pipeline: String, policy: String, selector: String, from: Workload, target: Target, duration: Duration },
    /// Makes connections to a component slow.
    Delay(Delay),
    /// Makes the disk of a component slow or full.
    Disk(Disk),
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
                let target = match arguments.target {
                    Target::Kafka => Component::Kafka,
                    Target::Cache => Component::Cache,
                };
                let component = component(arguments.from, target, pipeline);
                let names = Names::of(pipeline);
                let labels = names.selector(component);
                let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                Self::Partition {
                    pipeline: pipeline.name_any(),
                    policy: names.part(component),
                    selector: labels.join(","),
                    from: arguments.from,
                    target: arguments.target,
                    duration: Duration::from_secs(arguments.seconds),
                }
            }
            Arguments::Delay(arguments) => {
                let target = Component::from(arguments.target);
                let component = component(arguments.from, target, pipeline);
                Self::Delay(Delay::new(arguments, Names::of(pipeline), component, selector(target, pipeline)?))
            }
            Arguments::Disk(arguments) => {
                Self::Disk(Disk::new(arguments, selector(arguments.target.into(), pipeline)?))
            }
        })
    }

    /// True if the fault blocks network traffic.
    pub(crate) fn is_partition(&self) -> bool {
        matches!(self, Self::Partition { .. })
    }

    /// Prepares the fault, if its effect must not be confused with that of the preparation.
    pub(crate) async fn prepare(&self, cluster: &Cluster, server: &Server) -> anyhow::Result<()> {
        match self {
            Self::Partition { pipeline, policy, selector, target, .. } => {
                partition::block(cluster, server, pipeline, (policy, selector), *target).await
            }
            Self::Delay(delay) => delay.start(cluster, server).await,
            Self::Kill { .. } | Self::Flush { .. } | Self::Disk(_) => Ok(()),
        }
    }

    /// Causes the fault. When this returns, the fault is over and the pipeline has to recover. Returns a description.
    pub(crate) async fn inject(&self, cluster: &Cluster) -> anyhow::Result<String> {
        match self {
            Self::Kill { selectors } => {
                let found =
                    try_join_all(selectors.iter().map(|selector| pods::remaining(cluster, selector))).await?.concat();
                let pod = found.choose(&mut rand::rng()).context("no matching pod")?;
                pods::delete(cluster, pod, Some(0)).await?;
                Ok(format!("killed {pod}"))
            }
            Self::Flush { selector } => {
                let found = pods::remaining(cluster, selector).await?;
                ensure!(!found.is_empty(), "the cache has no pods");
                try_join_all(found.iter().map(|pod| pods::delete(cluster, pod, Some(0)))).await?;
                Ok(format!("emptied {}", found.join(", ")))
            }
            Self::Partition { policy, target, duration, .. } => {
                tokio::time::sleep(*duration).await;
                self.undo(cluster).await?;
                Ok(format!("blocked {policy} from {target:?} for {duration:?}").to_lowercase())
            }
            Self::Delay(delay) => delay.hold(cluster).await,
            Self::Disk(disk) => disk.burden(cluster).await,
        }
    }

    /// Undoes what would outlast this program. Can be called repeatedly.
    pub(crate) async fn undo(&self, cluster: &Cluster) -> anyhow::Result<()> {
        match self {
            Self::Partition { pipeline, .. } => partition::unblock(cluster, pipeline)
                .await
                .map(drop)
                .context("the pipeline is still suspended; run `kubectl pingpipeline drill undo`"),
            Self::Delay(delay) => {
                delay.stop(cluster).await.context("a hop is left; run `kubectl pingpipeline drill undo`")
            }
            // Ends with the script, which ends with its input.
            Self::Disk(_) | Self::Kill { .. } | Self::Flush { .. } => Ok(()),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { selectors } => write!(f, "kill a pod with labels {}", selectors.join(" or ")),
            Self::Flush { selector } => write!(f, "empty the cache by killing all pods with labels {selector}"),
            Self::Delay(delay) => delay.fmt(f),
            Self::Disk(disk) => disk.fmt(f),
            Self::Partition { from, target, duration, .. } => {
                write!(f, "{}", format!("block every {from:?} from {target:?} for {duration:?}").to_lowercase())
            }
        }
    }
}
