//! Commands in containers.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use crate::cluster::Cluster;

/// Bytes of output that are read. What a container prints is not trusted.
const MAX_OUTPUT: u64 = 1024 * 1024;
/// Time for the connection, besides that of the command.
const CONNECT_TIME: Duration = Duration::from_secs(20);

/// A container of a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    pub(super) pod: &'a str,
    pub(super) name: &'a str,
}

/// What a command printed.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// Why it did not succeed; none if it did.
    pub(super) failure: Option<String>,
}

/// Runs a command for at most `time`. Its input stays open until then, and ends if this program does. Requires permission to create
/// `pods/exec`.
pub(super) async fn run(
    cluster: &Cluster,
    Container { pod, name: container }: Container<'_>,
    command: Vec<String>,
    time: Duration,
) -> anyhow::Result<Output> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let params = AttachParams::default().container(container).stdin(true);
    let all = async {
        let mut process = pods.exec(pod, command, &params).await?;
        let _input = process.stdin();
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let status = process.take_status().context("no status")?;
        let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), status);
        let failure = match status {
            Some(status) if status.status.as_deref() == Some("Success") => None,
            Some(status) => Some(status.message.unwrap_or_default()),
            None => Some("the container ended".to_owned()),
        };
        anyhow::Ok(Output { stdout, stderr, failure })
    };
    match timeout(time + CONNECT_TIME, all).await {
        Ok(done) => done.with_context(|| format!("cannot run a command in container {container} of pod {pod}")),
        Err(_) => bail!("the command in container {container} of pod {pod} did not end within {time:?}"),
    }
}

/// What arrives until the end. A connection that breaks is an end.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // After the largest output, the rest is read, so that the command does not wait.
        let _ = (&mut stream).take(MAX_OUTPUT).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
