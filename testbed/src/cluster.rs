//! A whole Kubernetes cluster on this machine: the control plane, and real nodes with real pods. Needs root and Linux.
//!
//! What it needs comes from `testbed/control-plane/install.sh control-plane crds helm nodes coredns cnpg containers`. One
//! cluster at a time: its network and its control groups have fixed names.

mod network;
mod node;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

pub use self::node::Node;
use crate::{
    control_plane::{self, ControlPlane, Nodes, Options, cached},
    pid::Pid,
    process::Lifetime,
    tools,
};

const NAME_SERVICE: &str = include_str!("../cluster/coredns.yaml");
/// Two: one can be drained.
const NODES: u8 = 2;
/// How long the nodes, the name service and the CloudNativePG operator may take on two busy cores.
const READY_WITHIN: Duration = Duration::from_secs(300);
const CGROUPS: &str = "/sys/fs/cgroup";

/// A running cluster, with a name service and the CloudNativePG operator. Gone when dropped, but for its files, logs among
/// them: the next one removes those, and so does [`clear`].
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order.
    nodes: Vec<Node>,
    control_plane: ControlPlane,
    traces: Traces,
    folder: PathBuf,
}

/// What of a cluster may outlive its owner.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    nodes: Vec<Pid>,
    others: Vec<Pid>,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Clears away what is left of another one, starts one and returns when its nodes and operators are ready.
    pub async fn start(lifetime: Lifetime) -> anyhow::Result<Self> {
        let folder = folder()?;
        demand_rights().await?;
        clear()?;
        fs::create_dir_all(&folder)?;
        let archives = archives().await?;
        let traces = Traces;
        network::up().await?;
        let names = (1..=NODES).map(node::name).collect();
        let nodes = Some(Nodes { gateway: network::GATEWAY, names });
        let options = Options { scheduler: true, nodes, ..Options::default() };
        let control_plane = ControlPlane::launch(&place(&folder, "control-plane")?, None, lifetime, options).await?;
        let mut cluster = Self { nodes: Vec::new(), control_plane, traces, folder };
        for number in 1..=NODES {
            // Should we be killed on the way, `clear` finds what runs by then.
            cluster.note(Vec::new())?;
            cluster.add_node(number, lifetime, &archives).await?;
        }
        cluster.note(Vec::new())?;
        cluster.install_operators().await?;
        Ok(cluster)
    }

    async fn add_node(&mut self, number: u8, lifetime: Lifetime, archives: &[PathBuf]) -> anyhow::Result<()> {
        let folder = place(&self.folder, &node::name(number))?;
        let credentials = self.control_plane.node_credentials(&node::name(number));
        let programs = cached("kubernetes", "KUBERNETES_VERSION")?;
        let node = Node::start(&folder, number, NODES, &programs, &credentials, lifetime).await?;
        for archive in archives {
            node.import(archive).await?;
        }
        self.nodes.push(node);
        Ok(())
    }

    async fn install_operators(&self) -> anyhow::Result<()> {
        let kubectl = &self.control_plane;
        let name_service = NAME_SERVICE
            .replace("@DNS@", &network::DNS.to_string())
            .replace("@COREDNS@", control_plane::version("COREDNS_VERSION")?);
        kubectl.kubectl_with_input(["apply", "--filename=-"], &name_service).await?;
        kubectl
            .kubectl_with_input(["apply", "--server-side", "--force-conflicts", "--filename=-"], &cloudnative_pg()?)
            .await?;
        self.until_ready("kube-system", "deployment/coredns").await?;
        self.until_ready("cnpg-system", "deployment/cnpg-controller-manager").await
    }

    /// Waits until a workload has rolled out.
    pub async fn until_ready(&self, namespace: &str, workload: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let arguments = ["rollout", "status", "--timeout=60s", "--namespace", namespace, workload];
        loop {
            match self.control_plane.kubectl(arguments).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let pods = self.control_plane.kubectl(["describe", "pods", "--namespace", namespace]).await?;
                    return Err(error.context(format!("{workload} is not ready after {READY_WITHIN:?}:\n{pods}")));
                }
                Err(_) => {}
            }
        }
    }

    /// Its control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Its control plane, to kill parts of it.
    pub fn control_plane_mut(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    /// Makes the images in the archive known to every node.
    pub async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        for node in &self.nodes {
            node.import(archive).await?;
        }
        Ok(())
    }

    /// Where it keeps its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets it run on without an owner, until somebody calls [`clear`], together with processes that belong to it.
    pub fn leave(self, more: Vec<Pid>) -> anyhow::Result<()> {
        self.note(more)?;
        self.nodes.into_iter().for_each(Node::leave);
        self.control_plane.leave();
        std::mem::forget(self.traces);
        Ok(())
    }

    fn note(&self, more: Vec<Pid>) -> anyhow::Result<()> {
        let left = Left {
            nodes: self.nodes.iter().filter_map(Node::pid).collect(),
            others: self.control_plane.pids().into_iter().chain(more).collect(),
            kubeconfig: self.control_plane.kubeconfig_path().to_owned(),
        };
        Ok(fs::write(left_file(&self.folder), serde_json::to_vec(&left)?)?)
    }
}

/// What the kernel holds of a cluster besides its processes. Taken away when dropped.
#[derive(Debug)]
struct Traces;

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = undo() {
            eprintln!("cannot clear away the cluster: {error:#}");
        }
    }
}

/// The kubeconfig of the cluster that runs, if all of it does.
pub fn running() -> anyhow::Result<Option<PathBuf>> {
    let left = read_left(&folder()?)?;
    Ok(left
        .filter(|left| left.nodes.iter().chain(&left.others).all(|pid| pid.is_running()))
        .map(|left| left.kubeconfig))
}

/// Ends the cluster of this machine and undoes all it did, also what is left of one whose owner was killed.
pub fn clear() -> anyhow::Result<()> {
    let folder = folder()?;
    if let Some(left) = read_left(&folder)? {
        for pid in left.nodes.into_iter().chain(left.others) {
            pid.kill_tree()?;
        }
    }
    // Those of an owner that was killed before it could note them.
    for pid in Pid::all_of_folder(&folder) {
        pid.kill_tree()?;
    }
    undo()?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Takes away what the kernel still holds of a cluster.
fn undo() -> anyhow::Result<()> {
    for number in 1..=NODES {
        clear_control_groups(&node::name(number))?;
    }
    network::down(1..=NODES)
}

/// A folder for volumes, the same on every node.
pub fn volumes() -> anyhow::Result<PathBuf> {
    Ok(folder()?.join("volumes"))
}

/// Whatever still runs in the node's groups ends, the first process of the node last of all.
fn clear_control_groups(node: &str) -> anyhow::Result<()> {
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
    // The kernel lets go of the last member a moment after it ended.
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = fs::remove_dir(group) {
        ensure!(error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline, error);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The manifest of CloudNativePG's release, with the image that was built here, and the CPU that two cores can spare.
fn cloudnative_pg() -> anyhow::Result<String> {
    let file = cached("cnpg", "CNPG_VERSION")?.join("release.yaml");
    let manifest = fs::read_to_string(&file)
        .with_context(|| format!("no {}: run testbed/control-plane/install.sh cnpg", file.display()))?;
    let version = control_plane::version("CNPG_VERSION")?;
    let image = format!("ghcr.io/cloudnative-pg/cloudnative-pg:{version}");
    ensure!(manifest.contains(&image), "{} does not name {image}", file.display());
    Ok(manifest
        .replace(&image, &format!("testbed/cloudnative-pg:{version}"))
        .replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")
        .replace("            cpu: 100m\n            memory: 200Mi", "            memory: 200Mi"))
}

/// The archives of all images that are not ours.
async fn archives() -> anyhow::Result<Vec<PathBuf>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/images.sh");
    let folder = tools::run(&mut Command::new(script)).await?;
    let entries = fs::read_dir(folder.trim())?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).collect())
}

/// Errors: this machine, or this user, cannot run a cluster. Nothing is tried then.
async fn demand_rights() -> anyhow::Result<()> {
    let try_it = ["--net", "--mount", "--pid", "--fork", "ip", "link", "add", "type", "bridge"];
    tools::run(Command::new("unshare").args(try_it)).await.context(
        "a cluster needs root, and the right to make namespaces and network devices: run it as root, not in a container \
         without these rights",
    )?;
    Ok(())
}

fn place(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let place = folder.join(name);
    fs::create_dir_all(&place)?;
    Ok(place)
}

fn folder() -> anyhow::Result<PathBuf> {
    Ok(tools::state_folder()?.join("cluster"))
}

fn left_file(folder: &Path) -> PathBuf {
    folder.join("running.json")
}

fn read_left(folder: &Path) -> anyhow::Result<Option<Left>> {
    let file = left_file(folder);
    if !file.exists() {
        return Ok(None);
    }
    let left = serde_json::from_slice(&fs::read(&file)?);
    Ok(Some(left.with_context(|| format!("cannot understand {}", file.display()))?))
}
