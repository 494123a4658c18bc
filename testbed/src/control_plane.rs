//! A Kubernetes control plane: a real API server with controllers, but without nodes.
//!
//! `testbed/control-plane/install.sh` installs its programs and the CRDs.

mod assets;
pub mod cli;
mod credentials;
pub mod fake_operators;
mod kubectl;
mod processes;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::TcpStream;

pub(crate) use assets::{cached, version};
pub use assets::{crds, helm, kubectl};
pub(crate) use credentials::{NodeCredentials, SERVICES};

use self::{credentials::Credentials, kubectl::Kubectl, processes::ProcessFactory};
use crate::{
    folder::Folder,
    pid::Pid,
    ports::free_port,
    process::{Lifetime, Process},
};

/// An API server usually starts in three seconds, and takes several times that on two busy cores.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// The port of the API server of a cluster with nodes: the usual one, which NetworkPolicies name. Its gateway is a new address, so it is free.
const NODES_PORT: u16 = 6443;

/// What a control plane has besides etcd, the API server and the controller manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Install the CRDs of the operators that ping-operator depends on.
    pub crds: bool,
    /// More CRDs to install: files or folders. The garbage collector is slow to notice a kind that is installed later.
    pub more_crds: Vec<PathBuf>,
    /// Run a scheduler, which assigns pods to the nodes that a test creates.
    pub scheduler: bool,
    /// Real nodes that will join. Without them the API server listens on the loopback address only.
    pub nodes: Option<Nodes>,
}

/// What a control plane needs to know about its nodes before they join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// The address of this machine at which nodes and pods reach the API server.
    pub gateway: Ipv4Addr,
    /// The nodes' names.
    pub names: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { crds: true, more_crds: Vec::new(), scheduler: false, nodes: None }
    }
}

/// A running control plane on a free port of 127.0.0.1, or on port 6443 of its nodes' gateway. Stops and deletes its data when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order.
    scheduler: Option<Process>,
    controller_manager: Process,
    apiserver: Process,
    etcd: Process,
    kubectl: Kubectl,
    credentials: Credentials,
    audit_log: PathBuf,
    address: SocketAddrV4,
    /// None if the folder is to stay.
    _folder: Option<Folder>,
}

impl ControlPlane {
    /// Starts a control plane with the CRDs.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a control plane and returns when it serves, its CRDs are established and its controllers work.
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        let folder = Folder::create("control-plane")?;
        let path = folder.path().to_owned();
        Self::launch(&path, Some(folder), Lifetime::Owned, options).await
    }

    pub(crate) async fn launch(
        path: &Path,
        folder: Option<Folder>,
        lifetime: Lifetime,
        options: Options,
    ) -> anyhow::Result<Self> {
        let programs = assets::programs()?;
        let gateway = options.nodes.as_ref().map_or(Ipv4Addr::LOCALHOST, |nodes| nodes.gateway);
        let port = options.nodes.as_ref().map_or_else(free_port, |_| Ok(NODES_PORT))?;
        let address = SocketAddrV4::new(gateway, port);
        let nodes = options.nodes.as_ref().map_or(&[][..], |nodes| &nodes.names);
        let credentials = Credentials::write(path, address, nodes)?;
        let factory = ProcessFactory { programs: &programs, folder: path, credentials: &credentials, lifetime };
        let (audit_log, etcd_socket) = (path.join("audit.log"), factory.etcd_socket());
        let mut control_plane = Self {
            scheduler: options.scheduler.then(|| factory.scheduler()).transpose()?,
            controller_manager: factory.controller_manager()?,
            apiserver: factory.apiserver(address, &audit_log)?,
            etcd: factory.etcd()?,
            kubectl: Kubectl::new(programs.join("kubectl"), &credentials.admin, path),
            credentials,
            audit_log,
            address,
            _folder: folder,
        };
        control_plane.start_all(&options, &etcd_socket).await?;
        Ok(control_plane)
    }

    async fn start_all(&mut self, options: &Options, etcd_socket: &Path) -> anyhow::Result<()> {
        self.etcd.start(START_TIMEOUT, async |_| etcd_socket.exists()).await?;
        self.restart_apiserver().await?;
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.start(START_TIMEOUT, async |_| true).await?;
        }
        let kubectl = &self.kubectl;
        if options.crds {
            kubectl.install_crds(&crds()?).await?;
        }
        for path in &options.more_crds {
            kubectl.install_crds(path).await?;
        }
        // The controller manager creates this object once its controllers run.
        let works = async |_| kubectl.succeeds(["get", "serviceaccount", "default"]).await;
        // Started after the CRDs are installed because its garbage collector looks for new kinds only every 30 seconds.
        self.controller_manager.start(START_TIMEOUT, works).await?;
        Ok(())
    }

    /// `https://ADDRESS:PORT`
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A kubeconfig for an admin.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.credentials.admin
    }

    /// The admin's bearer token.
    pub fn admin_token(&self) -> &str {
        &self.credentials.admin_token
    }

    /// The CA certificate of the API server.
    pub fn ca_path(&self) -> &Path {
        &self.credentials.ca
    }

    /// The audit log: one JSON event per line for each request, except those of the control plane's own processes.
    pub fn audit_log_path(&self) -> &Path {
        &self.audit_log
    }

    /// Runs kubectl as admin and returns its output. An error contains its error output.
    pub async fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        self.kubectl.run(args).await
    }

    /// Runs kubectl with `input` as its standard input, for `-f -`.
    pub async fn kubectl_with_input<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        input: &str,
    ) -> anyhow::Result<String> {
        self.kubectl.run_with_input(args, input).await
    }

    /// Applies the CRDs in a file or a folder and returns when the API server serves them.
    pub async fn install_crds(&self, path: &Path) -> anyhow::Result<()> {
        self.kubectl.install_crds(path).await
    }

    /// Kills the API server with SIGKILL. Everything else keeps running.
    pub async fn kill_apiserver(&mut self) -> anyhow::Result<()> {
        self.apiserver.kill_9().await
    }

    /// Starts the API server again on the same port and data; kills it first if it runs.
    pub async fn restart_apiserver(&mut self) -> anyhow::Result<()> {
        let (address, kubectl) = (self.address, &self.kubectl);
        let ready =
            async |_| TcpStream::connect(address).await.is_ok() && kubectl.succeeds(["get", "--raw", "/readyz"]).await;
        self.apiserver.start(START_TIMEOUT, ready).await
    }

    /// The running processes.
    pub fn pids(&self) -> Vec<Pid> {
        let parts = [&self.controller_manager, &self.apiserver, &self.etcd];
        self.scheduler.iter().chain(parts).filter_map(Process::pid).collect()
    }

    /// Stops it. Dropping it does the same but ignores errors.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.kill_9().await?;
        }
        self.controller_manager.kill_9().await?;
        self.apiserver.kill_9().await?;
        self.etcd.kill_9().await
    }

    /// The credentials with which the node of that name joins; see [`Options::nodes`].
    pub(crate) fn node_credentials(&self, name: &str) -> NodeCredentials {
        self.credentials.node(name)
    }

    pub(crate) fn detach(self) {
        self.scheduler.into_iter().chain([self.controller_manager, self.apiserver, self.etcd]).for_each(|part| {
            part.detach();
        });
    }
}
