//! A Kubernetes control plane: a real API server, with controllers, without nodes.
//!
//! Its programs and the CRDs come from `testbed/control-plane/install.sh`.

mod assets;
pub mod cli;
mod credentials;
mod kubectl;
pub mod others;
mod recipes;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::TcpStream;

pub(crate) use assets::{cached, version};
pub use assets::{crds, helm, kubectl};
pub(crate) use credentials::{NodeCredentials, SERVICES};

use self::{credentials::Credentials, kubectl::Kubectl, recipes::Recipes};
use crate::{
    folder::Folder,
    pid::Pid,
    ports::free_port,
    process::{Lifetime, Process},
};

/// On two busy cores an API server needs several times its usual three seconds.
const STARTS_WITHIN: Duration = Duration::from_secs(90);

/// What a control plane consists of, beyond etcd, the API server and the controller manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// With the CRDs of the operators that we build on.
    pub crds: bool,
    /// CRDs of one's own, files or folders. Objects owned by one of a kind that comes later are collected late.
    pub more_crds: Vec<PathBuf>,
    /// With a scheduler: pods are assigned to nodes, if a test makes some.
    pub scheduler: bool,
    /// Real nodes that will join. Absent: there are none, and only this machine reaches the API server.
    pub nodes: Option<Nodes>,
}

/// What a control plane has to know of its nodes beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// The address of this machine at which they, and their pods, reach the API server.
    pub gateway: Ipv4Addr,
    /// Their names.
    pub names: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { crds: true, more_crds: Vec::new(), scheduler: false, nodes: None }
    }
}

/// A running control plane on a free port of 127.0.0.1, or of its nodes' gateway. Gone when dropped, with all that it held.
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
    /// Absent if the folder is not ours to remove.
    _folder: Option<Folder>,
}

impl ControlPlane {
    /// Starts one with the CRDs.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts one and returns when it serves, its CRDs are established and its controllers work.
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
        let address = SocketAddrV4::new(gateway, free_port()?);
        let nodes = options.nodes.as_ref().map_or(&[][..], |nodes| &nodes.names);
        let credentials = Credentials::write(path, address, nodes)?;
        let recipes = Recipes { programs: &programs, folder: path, credentials: &credentials, lifetime };
        let (audit_log, etcd_socket) = (path.join("audit.log"), recipes.etcd_socket());
        let mut control_plane = Self {
            scheduler: options.scheduler.then(|| recipes.scheduler()).transpose()?,
            controller_manager: recipes.controller_manager()?,
            apiserver: recipes.apiserver(address, &audit_log)?,
            etcd: recipes.etcd()?,
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
        self.etcd.start(STARTS_WITHIN, async |_| etcd_socket.exists()).await?;
        self.restart_apiserver().await?;
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.start(STARTS_WITHIN, async |_| true).await?;
        }
        let kubectl = &self.kubectl;
        if options.crds {
            kubectl.install_crds(&crds()?).await?;
        }
        for path in &options.more_crds {
            kubectl.install_crds(path).await?;
        }
        // It makes this object once its controllers run.
        let works = async |_| kubectl.run(["get", "serviceaccount", "default"]).await.is_ok();
        // After the CRDs: its garbage collector looks for new kinds only every 30 seconds.
        self.controller_manager.start(STARTS_WITHIN, works).await?;
        Ok(())
    }

    /// `https://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A kubeconfig of the user who may do everything.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.credentials.admin
    }

    /// That user's bearer token.
    pub fn admin_token(&self) -> &str {
        &self.credentials.admin_token
    }

    /// The certificate of the authority that signed the API server's own.
    pub fn ca_path(&self) -> &Path {
        &self.credentials.ca
    }

    /// One JSON event a line for each request, but for those of the control plane's own parts: who, what, which verb.
    pub fn audit_log_path(&self) -> &Path {
        &self.audit_log
    }

    /// Runs kubectl as admin and returns what it prints; an error holds what it printed.
    pub async fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        self.kubectl.run(args).await
    }

    /// The same with a standard input, for `-f -`.
    pub async fn kubectl_with_input<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        input: &str,
    ) -> anyhow::Result<String> {
        self.kubectl.run_with_input(args, input).await
    }

    /// Applies the CRDs in a file, or below a folder, and returns when their objects are served.
    pub async fn install_crds(&self, path: &Path) -> anyhow::Result<()> {
        self.kubectl.install_crds(path).await
    }

    /// Kills the API server with SIGKILL. Everything else runs on.
    pub async fn kill_apiserver(&mut self) -> anyhow::Result<()> {
        self.apiserver.kill_9().await
    }

    /// Starts the API server again, on its port, with what etcd holds; kills it first if it runs.
    pub async fn restart_apiserver(&mut self) -> anyhow::Result<()> {
        let (address, kubectl) = (self.address, &self.kubectl);
        // The second question costs a process, so it waits for the first.
        let ready = async |_| {
            TcpStream::connect(address).await.is_ok() && kubectl.run(["get", "--raw", "/readyz"]).await.is_ok()
        };
        self.apiserver.start(STARTS_WITHIN, ready).await
    }

    /// The running processes.
    pub fn pids(&self) -> Vec<Pid> {
        let parts = [&self.controller_manager, &self.apiserver, &self.etcd];
        self.scheduler.iter().chain(parts).filter_map(Process::pid).collect()
    }

    /// Ends it. Dropping it does the same and tells nothing.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.kill_9().await?;
        }
        self.controller_manager.kill_9().await?;
        self.apiserver.kill_9().await?;
        self.etcd.kill_9().await
    }

    /// What a node of that name needs to join: see [`Options::nodes`].
    pub(crate) fn node_credentials(&self, name: &str) -> NodeCredentials {
        self.credentials.node(name)
    }

    pub(crate) fn leave(self) {
        self.scheduler.into_iter().chain([self.controller_manager, self.apiserver, self.etcd]).for_each(|part| {
            part.leave();
        });
    }
}
