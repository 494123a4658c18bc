//! A Kubernetes cluster on this machine: a control plane and real nodes that run real pods. Needs root and Linux.
//!
//! `testbed/control-plane/install.sh control-plane crds helm nodes coredns kube-router cnpg containers` installs what it needs.
//! Only one cluster can run at a time because its network and its cgroups have fixed names.

mod backups;
mod network;
mod node;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

pub use self::{backups::ObjectStore, node::Node};
use crate::{
    control_plane::{self, ControlPlane, Nodes, Options, cached},
    pid::Pid,
    process::Lifetime,
    tools,
};

const COREDNS: &str = include_str!("../cluster/coredns.yaml");
/// Two, so that one can be drained.
const NODES: u8 = 2;
/// Long enough for the nodes, CoreDNS and CloudNativePG on two busy cores.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// A cluster with one pipeline took 3.3 GiB (2026-11-29, two nodes): images, unpacked on each node, and volumes, which grow with what is
/// counted.
const REQUIRED_BYTES: u64 = 6 << 30;
const CGROUPS: &str = "/sys/fs/cgroup";
/// For clusters that name no image. `testbed/cluster/images.sh` builds it.
const POSTGRES_IMAGE: &str = "testbed/postgresql:15";

/// A running cluster with CoreDNS and the CloudNativePG operator, whose nodes enforce NetworkPolicies. Stops when dropped. Its files,
/// including the logs, remain until the next cluster starts or [`remove`] is called.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order.
    nodes: Vec<Node>,
    control_plane: ControlPlane,
    kernel_state: KernelState,
    folder: PathBuf,
}

/// The parts of a cluster that can outlive its owner, as recorded in its folder.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    nodes: Vec<Pid>,
    other_processes: Vec<Pid>,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Removes what remains of another cluster, starts one and returns when its nodes and operators are ready.
    pub async fn start(lifetime: Lifetime) -> anyhow::Result<Self> {
        let folder = folder()?;
        check_privileges().await?;
        remove()?;
        fs::create_dir_all(&folder)?;
        check_free_space(&folder)?;
        let archives = archives("cluster").await?;
        let kernel_state = KernelState;
        network::up().await?;
        let names = (1..=NODES).map(node::name).collect();
        let nodes = Some(Nodes { gateway: network::GATEWAY, names });
        let options = Options { scheduler: true, nodes, ..Options::default() };
        let control_plane =
            ControlPlane::launch(&create_subfolder(&folder, "control-plane")?, None, lifetime, options).await?;
        let mut cluster = Self { nodes: Vec::new(), control_plane, kernel_state, folder };
        // If this process is killed while the nodes start, `remove` finds the control plane by this record.
        cluster.record(Vec::new())?;
        let nodes = (1..=NODES).map(|number| cluster.start_node(number, lifetime, &archives));
        cluster.nodes = try_join_all(nodes).await?;
        cluster.record(Vec::new())?;
        try_join_all(cluster.nodes.iter().map(Node::wait_for_policies)).await?;
        cluster.install_operators().await?;
        Ok(cluster)
    }

    async fn start_node(&self, number: u8, lifetime: Lifetime, archives: &[PathBuf]) -> anyhow::Result<Node> {
        let folder = create_subfolder(&self.folder, &node::name(number))?;
        let credentials = self.control_plane.node_credentials(&node::name(number));
        let programs = [cached("kubernetes", "KUBERNETES_VERSION")?, cached("kube-router", "KUBE_ROUTER_VERSION")?];
        let programs = std::env::join_paths(programs)?;
        let node = Node::start(&folder, number, NODES, &programs, &credentials, lifetime).await?;
        for archive in archives {
            node.import(archive).await?;
        }
        Ok(node)
    }

    async fn install_operators(&self) -> anyhow::Result<()> {
        let kubectl = &self.control_plane;
        let coredns = COREDNS
            .replace("@DNS@", &network::DNS.to_string())
            .replace("@COREDNS@", control_plane::version("COREDNS_VERSION")?);
        kubectl.kubectl_with_input(["apply", "--filename=-"], &coredns).await?;
        kubectl
            .kubectl_with_input(["apply", "--server-side", "--force-conflicts", "--filename=-"], &cloudnative_pg()?)
            .await?;
        self.wait_until_ready("kube-system", "deployment/coredns").await?;
        self.wait_until_ready("cnpg-system", "deployment/cnpg-controller-manager").await
    }

    /// Waits until a workload has rolled out.
    pub async fn wait_until_ready(&self, namespace: &str, workload: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let arguments = ["rollout", "status", "--timeout=60s", "--namespace", namespace, workload];
        loop {
            match self.control_plane.kubectl(arguments).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let pods = self.control_plane.kubectl(["describe", "pods", "--namespace", namespace]).await?;
                    return Err(error.context(format!("{workload} is not ready after {READY_TIMEOUT:?}:\n{pods}")));
                }
                Err(_) => {}
            }
        }
    }

    /// Its control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Its control plane, to kill and restart its processes.
    pub fn control_plane_mut(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Loads the images of an archive into every node.
    pub async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        try_join_all(self.nodes.iter().map(|node| node.import(archive))).await?;
        Ok(())
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps it running without an owner until [`remove`] is called, which also kills `more`.
    pub fn detach(self, more: Vec<Pid>) -> anyhow::Result<()> {
        self.record(more)?;
        self.nodes.into_iter().for_each(Node::detach);
        self.control_plane.detach();
        std::mem::forget(self.kernel_state);
        Ok(())
    }

    fn record(&self, more: Vec<Pid>) -> anyhow::Result<()> {
        let record = Record {
            nodes: self.nodes.iter().filter_map(Node::pid).collect(),
            other_processes: self.control_plane.pids().into_iter().chain(more).collect(),
            kubeconfig: self.control_plane.kubeconfig_path().to_owned(),
        };
        Ok(fs::write(record_file(&self.folder), serde_json::to_vec(&record)?)?)
    }
}

/// The cgroups and network devices of a cluster. Removed when dropped.
#[derive(Debug)]
struct KernelState;

impl Drop for KernelState {
    fn drop(&mut self) {
        if let Err(error) = remove_kernel_state() {
            eprintln!("cannot remove the cluster's cgroups and network devices: {error:#}");
        }
    }
}

/// The kubeconfig of the running cluster; none unless all of its processes run.
pub fn running() -> anyhow::Result<Option<PathBuf>> {
    let record = read_record(&folder()?)?;
    let is_running = |record: &Record| record.nodes.iter().chain(&record.other_processes).all(|pid| pid.is_running());
    Ok(record.filter(is_running).map(|record| record.kubeconfig))
}

/// Stops the cluster of this machine and removes all its traces, even if its owner was killed.
pub fn remove() -> anyhow::Result<()> {
    let folder = folder()?;
    if let Some(record) = read_record(&folder)? {
        for pid in record.nodes.into_iter().chain(record.other_processes) {
            pid.kill_tree()?;
        }
    }
    // Processes whose owner was killed before it could record them.
    for pid in Pid::started_in(&folder) {
        pid.kill_tree()?;
    }
    remove_kernel_state()?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn remove_kernel_state() -> anyhow::Result<()> {
    for number in 1..=NODES {
        remove_cgroups(&node::name(number))?;
    }
    network::down(1..=NODES)
}

/// The folder for volumes; the same on every node.
pub fn volumes() -> anyhow::Result<PathBuf> {
    Ok(folder()?.join("volumes"))
}

/// Kills whatever still runs in the node's cgroups, children first, and removes the cgroups.
fn remove_cgroups(node: &str) -> anyhow::Result<()> {
    for controller in fs::read_dir(CGROUPS).into_iter().flatten() {
        let group = controller?.path().join(node);
        if group.is_dir() {
            remove_group(&group).with_context(|| format!("cannot remove {}", group.display()))?;
        }
    }
    Ok(())
}

fn remove_group(group: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    let members = fs::read_to_string(group.join("cgroup.procs"))?;
    for pid in members.lines().filter_map(|line| Pid::of(line.parse().ok()?)) {
        pid.kill_tree()?;
    }
    // The kernel releases a cgroup shortly after its last member has ended.
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = fs::remove_dir(group) {
        ensure!(error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline, error);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The manifest of the CloudNativePG release, changed to use the locally built images and to request no CPU.
fn cloudnative_pg() -> anyhow::Result<String> {
    let file = cached("cnpg", "CNPG_VERSION")?.join("release.yaml");
    let manifest = fs::read_to_string(&file)
        .with_context(|| format!("{} is missing: run testbed/control-plane/install.sh cnpg", file.display()))?;
    let version = control_plane::version("CNPG_VERSION")?;
    let image = format!("ghcr.io/cloudnative-pg/cloudnative-pg:{version}");
    ensure!(manifest.contains(&image), "{} does not name {image}", file.display());
    let variable = "        - name: OPERATOR_IMAGE_NAME\n";
    ensure!(manifest.contains(variable), "{} does not set OPERATOR_IMAGE_NAME", file.display());
    let postgres = format!("        - name: POSTGRES_IMAGE_NAME\n          value: {POSTGRES_IMAGE}\n");
    Ok(manifest
        .replace(variable, &format!("{postgres}{variable}"))
        .replace(&image, &format!("testbed/cloudnative-pg:{version}"))
        .replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")
        .replace("            cpu: 100m\n            memory: 200Mi", "            memory: 200Mi"))
}

/// The archives of a group of third-party images: `cluster` or `backups`.
async fn archives(group: &str) -> anyhow::Result<Vec<PathBuf>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/images.sh");
    let folder = tools::run(Command::new(script).arg(group)).await?;
    let entries = fs::read_dir(folder.trim())?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).collect())
}

/// Fails early on a machine, or for a user, that cannot run a cluster.
async fn check_privileges() -> anyhow::Result<()> {
    let trial = ["--net", "--mount", "--pid", "--fork", "ip", "link", "add", "type", "bridge"];
    tools::run(Command::new("unshare").args(trial)).await.context(
        "a cluster needs root and permission to create namespaces and network devices; run it as root, outside of \
         restricted containers",
    )?;
    Ok(())
}

/// A full disk would show as an image that cannot be unpacked, minutes later.
fn check_free_space(folder: &Path) -> anyhow::Result<()> {
    let disk =
        rustix::fs::statvfs(folder).with_context(|| format!("cannot read the free space of {}", folder.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        free >= REQUIRED_BYTES,
        "{} has {:.1} GiB of free space, and the images and volumes of a cluster need {} GiB. Free some, or set XDG_STATE_HOME to a \
         folder on another disk",
        folder.display(),
        free as f64 / f64::from(1 << 30),
        REQUIRED_BYTES >> 30,
    );
    Ok(())
}

fn create_subfolder(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let subfolder = folder.join(name);
    fs::create_dir_all(&subfolder)?;
    Ok(subfolder)
}

fn folder() -> anyhow::Result<PathBuf> {
    Ok(tools::state_folder()?.join("cluster"))
}

fn record_file(folder: &Path) -> PathBuf {
    folder.join("running.json")
}

fn read_record(folder: &Path) -> anyhow::Result<Option<Record>> {
    let file = record_file(folder);
    if !file.exists() {
        return Ok(None);
    }
    let record = serde_json::from_slice(&fs::read(&file)?);
    Ok(Some(record.with_context(|| format!("cannot parse {}", file.display()))?))
}
