//! A node: containerd, kubelet, kube-proxy and kube-router in their own namespaces, started by `testbed/cluster/node/init.sh`.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::process::Command;

use super::network;
use crate::{
    control_plane::NodeCredentials,
    pid::Pid,
    process::{Lifetime, Process, ProcessSpec},
    tools,
};

const INIT: &str = include_str!("../../cluster/node/init.sh");
const CONTAINERD: &str = include_str!("../../cluster/node/containerd.toml");
const CNI: &str = include_str!("../../cluster/node/cni.conflist");
const KUBELET: &str = include_str!("../../cluster/node/kubelet.yaml");
const PROXY: &str = include_str!("../../cluster/node/kube-proxy.yaml");
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running node. Everything on it stops when it is dropped.
#[derive(Debug)]
pub struct Node {
    process: Process,
    number: u8,
}

/// The name of node `number` and of its cgroups.
pub(super) fn name(number: u8) -> String {
    format!("ping-node-{number}")
}

impl Node {
    /// Starts node `number` of `count` in `folder`, with the programs in `programs`, a list of folders like `PATH`. It has no images yet.
    pub(super) async fn start(
        folder: &Path,
        number: u8,
        count: u8,
        programs: &OsStr,
        credentials: &NodeCredentials,
        lifetime: Lifetime,
    ) -> anyhow::Result<Self> {
        write_files(folder, number, credentials).with_context(|| format!("cannot write {}", folder.display()))?;
        let unshare = ["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation=private"];
        let mut args: Vec<OsString> = unshare.into_iter().map(Into::into).collect();
        args.extend(["--mount-proc", "bash"].map(OsString::from));
        args.extend([folder.join("init.sh").into(), folder.into(), name(number).into()]);
        args.extend([network::address(number), network::GATEWAY].map(|address| address.to_string().into()));
        args.push(programs.into());
        let others = (1..=count).filter(|other| *other != number);
        args.extend(others.map(|other| format!("{}={}", network::pods(other), network::address(other)).into()));
        let mut process = Process::new(ProcessSpec {
            name: "a node",
            program: tools::on_path("unshare")?,
            args,
            env: Vec::new(),
            user: None,
            folder: folder.to_owned(),
            lifetime,
            stop_signal: Signal::KILL,
        });
        let outside = network_namespace(Pid::own().context("cannot read /proc")?);
        process
            .start(START_TIMEOUT, async |pid| network_namespace(pid).is_some_and(|inside| Some(inside) != outside))
            .await?;
        network::connect(number, process.pid().context("the node ended")?).await?;
        let node = Self { process, number };
        node.wait_for_containerd().await?;
        Ok(node)
    }

    /// Its name in Kubernetes.
    pub fn name(&self) -> String {
        name(self.number)
    }

    /// The first process of the node, in its namespaces; everything else on the node ends with it. None if the node ended.
    pub fn pid(&self) -> Option<Pid> {
        self.process.pid()
    }

    /// Loads the images of an archive.
    pub async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        self.ctr(&["--namespace=k8s.io", "images", "import", &archive.to_string_lossy()]).await
    }

    /// Waits until kube-router has applied NetworkPolicies for the first time, which it can once the kubelet has registered the node.
    pub(super) async fn wait_for_policies(&self) -> anyhow::Result<()> {
        let enforced = async {
            // The last rule that kube-router adds.
            while !self
                .run(&["iptables", "--list-rules", "KUBE-ROUTER-FORWARD"])
                .await
                .is_ok_and(|rules| rules.contains("-j ACCEPT"))
            {
                tokio::time::sleep(Duration::from_millis(200)).await
            }
        };
        let log = self.process.log().with_file_name("kube-router.log");
        tokio::time::timeout(START_TIMEOUT, enforced).await.with_context(|| {
            format!("{} does not enforce NetworkPolicies after {START_TIMEOUT:?}; see {}", self.name(), log.display())
        })
    }

    pub(super) fn detach(self) {
        self.process.detach();
    }

    async fn wait_for_containerd(&self) -> anyhow::Result<()> {
        let ready = async {
            while self.ctr(&["version"]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await
            }
        };
        let log = self.process.log();
        tokio::time::timeout(START_TIMEOUT, ready).await.with_context(|| {
            format!("containerd on {} is not ready after {START_TIMEOUT:?}; see {}", self.name(), log.display())
        })
    }

    async fn ctr(&self, args: &[&str]) -> anyhow::Result<()> {
        self.run(&[&["ctr"], args].concat()).await?;
        Ok(())
    }

    /// Runs a program on the node and returns its output.
    async fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        let pid = self.process.pid().context("the node ended")?.number().to_string();
        tools::run(Command::new("nsenter").args(["--target", &pid, "--mount", "--net"]).args(command)).await
    }
}

fn network_namespace(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{}/ns/net", pid.number())).ok()
}

fn write_files(folder: &Path, number: u8, credentials: &NodeCredentials) -> anyhow::Result<()> {
    fs::create_dir_all(folder.join("cni"))?;
    let fill = |template: &str| {
        template
            .replace("@FOLDER@", &folder.to_string_lossy())
            .replace("@NAME@", &name(number))
            .replace("@CA@", &credentials.ca.to_string_lossy())
            .replace("@PODS@", &network::pods(number))
            .replace("@ALL_PODS@", network::ALL_PODS)
            .replace("@DNS@", &network::DNS.to_string())
    };
    fs::write(folder.join("init.sh"), INIT)?;
    fs::write(folder.join("containerd.toml"), fill(CONTAINERD))?;
    fs::write(folder.join("cni/testbed.conflist"), fill(CNI))?;
    fs::write(folder.join("kubelet.yaml"), fill(KUBELET))?;
    fs::write(folder.join("kube-proxy.yaml"), fill(PROXY))?;
    fs::copy(&credentials.kubelet, folder.join("kubelet.kubeconfig"))?;
    fs::copy(&credentials.proxy, folder.join("kube-proxy.kubeconfig"))?;
    fs::copy(&credentials.kube_router, folder.join("kube-router.kubeconfig"))?;
    Ok(())
}
