//! Slow and full disks: a script in a component's container, which burdens its volume with a file that has no name. So the space is free
//! again whenever the script ends, and it ends with its time, with the container, or with this program.

use std::{
    fmt::{self, Display, Formatter},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt};
use ping_api::quantity;

use super::{
    component::Component,
    exec::{self, Container, Output},
    pods,
};
use crate::cluster::Cluster;

const SCRIPT: &str = include_str!("disk.sh");
/// Time to occupy the space where the file system cannot allocate it at once.
const FILL_TIME: Duration = Duration::from_secs(300);
/// Time of other steps of the script.
const STEP_TIME: Duration = Duration::from_secs(10);
/// A file system that is larger than the claim by more than this factor has other users.
const MAX_RATIO: f64 = 2.0;
const MIB_PER_GIB: u64 = 1024;
const KIB_PER_MIB: u64 = 1024;

#[derive(Args)]
pub(crate) struct DiskArguments {
    /// Name of the pipeline.
    pub(super) name: String,
    /// Component whose disk is burdened; `postgres` means its primary.
    #[arg(long, value_enum, default_value = "postgres")]
    pub(super) target: Target,
    /// What happens to the disk.
    #[arg(long, value_enum, default_value = "slow")]
    how: How,
    /// Duration in seconds.
    #[arg(long = "for", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=600))]
    seconds: u64,
    /// With `--how full`: MiB that stay free.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_048_576))]
    leave_mib: u64,
    /// With `--how full`: most GiB to occupy. If more are free, nothing is done.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1024))]
    max_gib: u64,
}

/// Components that keep events on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    Postgres,
    Kafka,
}

impl From<Target> for Component {
    fn from(target: Target) -> Self {
        match target {
            Target::Postgres => Self::Postgres,
            Target::Kafka => Self::Kafka,
        }
    }
}

/// What happens to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// Four writers make synced writes of 8 KiB as fast as the disk permits.
    Slow,
    /// A file occupies what is free.
    Full,
}

/// A disk that is slow or full for some time.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    target: Target,
    /// Selects the pods of which one is burdened.
    selector: String,
    how: How,
    duration: Duration,
    leave_mib: u64,
    max_gib: u64,
}

impl Disk {
    pub(super) fn new(arguments: &DiskArguments, selector: String) -> Self {
        let DiskArguments { target, how, seconds, leave_mib, max_gib, .. } = *arguments;
        Self { target, selector, how, duration: Duration::from_secs(seconds), leave_mib, max_gib }
    }

    /// Burdens the disk of one pod, and returns when it no longer is. Returns a description.
    pub(super) async fn burden(&self, cluster: &Cluster) -> anyhow::Result<String> {
        let running = pods::find(cluster, &self.selector).await?;
        let pod = running.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
        let pod = pod.with_context(|| format!("no pod with labels {}", self.selector))?;
        let name = pod.name_any();
        let volume = Volume::of(pod)
            .with_context(|| format!("pod {name} has no volume with a claim, so it has no disk of its own"))?;
        let container = Container { pod: &name, name: &volume.container };
        let kib = match self.how {
            How::Slow => 0,
            How::Full => self.space(cluster, container, &volume).await?,
        };
        let (started, time) = (Instant::now(), self.time());
        let output = exec::run(cluster, container, self.command(&volume.folder, kib), time).await?;
        self.describe(&name, kib, &output, started.elapsed())
    }

    /// How many KiB to occupy.
    async fn space(&self, cluster: &Cluster, container: Container<'_>, volume: &Volume) -> anyhow::Result<u64> {
        let command = ["df", "-Pk", &volume.folder].map(str::to_owned).to_vec();
        let output = exec::run(cluster, container, command, STEP_TIME).await?;
        let space = Space::parse(&output.stdout)
            .with_context(|| format!("df in container {} printed no sizes: {}", container.name, reason(&output)))?;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let claim = claims.get(&volume.claim).await.with_context(|| format!("cannot read claim {}", volume.claim))?;
        let capacity = claim.status.and_then(|status| quantity::parse(&status.capacity?.get("storage")?.0));
        let capacity = capacity.with_context(|| format!("claim {} has no capacity", volume.claim))?;
        self.to_occupy(&volume.claim, space, capacity)
    }

    /// How many KiB to occupy on a file system with this space, for a claim with a capacity in bytes. Pure.
    fn to_occupy(&self, claim: &str, space: Space, capacity: f64) -> anyhow::Result<u64> {
        let gib = |kib: u64| kib as f64 / (KIB_PER_MIB * MIB_PER_GIB) as f64;
        let size_kib = capacity / 1024.0;
        ensure!(
            space.size_kib as f64 <= MAX_RATIO * size_kib,
            "the volume of {claim} is a folder on a file system of {:.0} GiB, which others share: to fill it would stop them, too. Use a \
             storage class whose volumes have file systems of their own, or --how slow",
            gib(space.size_kib)
        );
        let kib = space.free_kib.saturating_sub(self.leave_mib * KIB_PER_MIB);
        ensure!(kib > 0, "the volume of {claim} has less than {} MiB free, which were to stay free", self.leave_mib);
        ensure!(
            kib <= self.max_gib * MIB_PER_GIB * KIB_PER_MIB,
            "the volume of {claim} has {:.0} GiB to fill, which is more than --max-gib {}",
            gib(kib),
            self.max_gib
        );
        Ok(kib)
    }

    /// The longest time of the script.
    fn time(&self) -> Duration {
        match self.how {
            How::Slow => self.duration + STEP_TIME,
            How::Full => self.duration + FILL_TIME,
        }
    }

    /// The script with its limit: if it does not end by itself, `timeout` ends it.
    fn command(&self, folder: &str, kib: u64) -> Vec<String> {
        let how = match self.how {
            How::Slow => "slow",
            How::Full => "full",
        };
        let limit = self.time().as_secs().to_string();
        let (seconds, kib) = (self.duration.as_secs().to_string(), kib.to_string());
        let command = ["timeout", "-k", "5", &limit, "sh", "-c", SCRIPT, "disk", how, folder, &seconds, &kib];
        command.map(str::to_owned).to_vec()
    }

    /// What the script has done. A full disk may end its container, and with it the script.
    fn describe(&self, pod: &str, kib: u64, output: &Output, took: Duration) -> anyhow::Result<String> {
        let took = Duration::from_secs(took.as_secs());
        match self.how {
            How::Slow => {
                let writes: u64 = output.stdout.lines().filter_map(|line| line.parse::<u64>().ok()).sum();
                ensure!(writes > 0, "no write to the volume of {pod} succeeded: {}", reason(output));
                Ok(format!("slowed {pod}: {writes} writes, {took:?}"))
            }
            How::Full if output.stdout.contains("full") => {
                Ok(format!("filled {pod}: {} MiB, {took:?}", kib.div_ceil(KIB_PER_MIB)))
            }
            How::Full => bail!("the volume of {pod} was not filled: {}", reason(output)),
        }
    }
}

impl Display for Disk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let target = format!("{:?}", self.target).to_lowercase();
        match self.how {
            How::Slow => write!(f, "slow the disk of {target} with synced writes for {:?}", self.duration),
            How::Full => {
                write!(f, "fill the volume of {target}, up to {} MiB, for {:?}", self.leave_mib, self.duration)
            }
        }
    }
}

/// Why a command did nothing.
fn reason(output: &Output) -> String {
    let failure = output.failure.as_deref().unwrap_or("it printed nothing");
    format!("{failure} {}\nThe container needs sh, rm, dd, head, df, timeout and cat.", output.stderr.trim())
}

/// Where a pod keeps its data.
#[derive(Debug, PartialEq, Eq)]
struct Volume {
    container: String,
    folder: String,
    claim: String,
}

impl Volume {
    /// The volume of the first container that has one with a claim; of two, that with the write-ahead log, for which commits wait.
    fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let claim = |volume: &str| {
            let volume = spec.volumes.iter().flatten().find(|one| one.name == volume)?;
            Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())
        };
        spec.containers.iter().find_map(|container| {
            let mounts = container.volume_mounts.iter().flatten().filter_map(|mount| {
                let claim = claim(&mount.name)?;
                Some(Self { container: container.name.clone(), folder: mount.mount_path.clone(), claim })
            });
            mounts.min_by_key(|volume| !volume.folder.ends_with("/wal"))
        })
    }
}

/// The size of a file system, and what is free for programs without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    size_kib: u64,
    free_kib: u64,
}

impl Space {
    /// From what `df -Pk` prints; none if it printed something else. Pure.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
        // The name of the file system, which comes first, may have spaces.
        let [.., size, _used, free, _percent, _folder] = fields[..] else { return None };
        Some(Self { size_kib: size.parse().ok()?, free_kib: free.parse().ok()? })
    }
}

#[cfg(test)]
mod tests;
