//! Forwards connections from a local port to pods, through the API server and a kubelet. Unlike the API server's proxy, this passes TLS and
//! credentials on unchanged.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use rand::seq::IndexedRandom;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Which pods to forward to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Labels of the pods, as `key=value,…`.
    pub(crate) selector: String,
    /// Name of the container port.
    pub(crate) port: &'static str,
}

/// A local port. It ends when dropped.
pub(crate) struct Forward {
    /// The local address.
    pub(crate) address: SocketAddr,
    _connections: JoinSet<()>,
}

impl Forward {
    /// Listens on a free port of this machine, and forwards each connection to a ready pod of `target`, chosen at random. Requires
    /// permission to list pods and to create `pods/portforward`.
    ///
    /// # Errors
    /// If no port is free.
    pub(crate) async fn start(target: Target) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen on this machine")?;
        let address = listener.local_addr()?;
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let target = target.clone();
                open.spawn(async move {
                    // The caller sees that the connection ends, and retries; the cause helps if it never succeeds.
                    if let Err(error) = target.forward(stream).await {
                        eprintln!("cannot forward a connection: {error:#}");
                    }
                });
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, _connections: connections })
    }
}

impl Target {
    /// Whether a pod is ready.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub(crate) async fn is_ready(&self) -> anyhow::Result<bool> {
        Ok(!self.ready_pods().await?.is_empty())
    }

    async fn forward(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let pods = self.ready_pods().await?;
        let (pod, port) = pods.choose(&mut rand::rng()).context("no pod is ready")?;
        let mut forwarder = self.pods().portforward(pod, &[*port]).await.with_context(|| format!("pod {pod}"))?;
        let mut remote = forwarder.take_stream(*port).context("the port is not forwarded")?;
        // Either side may break the connection at any time; that is no error here.
        let _ = copy_bidirectional(&mut stream, &mut remote).await;
        Ok(())
    }

    /// Names of the ready pods, each with the number of the port.
    async fn ready_pods(&self) -> anyhow::Result<Vec<(String, u16)>> {
        let pods = self.pods().list(&ListParams::default().labels(&self.selector)).await.context("cannot list pods")?;
        let ready = pods.iter().filter(|pod| is_ready(pod));
        Ok(ready.filter_map(|pod| Some((pod.name_any(), port(pod, self.port)?))).collect())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    is_ready && pod.metadata.deletion_timestamp.is_none()
}

fn port(pod: &Pod, name: &str) -> Option<u16> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|port| port.name.as_deref() == Some(name))?;
    u16::try_from(found.container_port).ok()
}
