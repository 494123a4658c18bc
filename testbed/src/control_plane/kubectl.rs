//! Runs kubectl as the admin of a control plane.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Some subcommands would otherwise wait forever.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Pause after a failed poll.
const PAUSE: Duration = Duration::from_millis(150);
/// How long the API server may take to serve a new CRD.
const CRD_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    pub(super) fn new(program: PathBuf, kubeconfig: &Path, home: &Path) -> Self {
        Self { program, kubeconfig: kubeconfig.to_owned(), home: home.to_owned() }
    }

    pub(super) async fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> anyhow::Result<String> {
        self.run_with_input(args, "").await
    }

    /// Whether the command succeeds, for polling: waits after a failure, because each kubectl takes CPU time from the process
    /// that is starting.
    pub(super) async fn succeeds<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> bool {
        let succeeded = self.run(args).await.is_ok();
        if !succeeded {
            tokio::time::sleep(PAUSE).await;
        }
        succeeded
    }

    pub(super) async fn run_with_input(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &str,
    ) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(args).kill_on_drop(true);
        // Its own home hides a developer's settings and the discovery cache of an earlier server on the same port.
        command.env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig).env_remove("KUBECACHEDIR");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no input")?;
        let exchange = async {
            // Written concurrently because kubectl may print before it has read everything. Write errors are ignored
            // because kubectl reports the actual problem itself.
            let write = async move {
                let _ = stdin.write_all(input.as_bytes()).await;
                drop(stdin);
            };
            tokio::join!(write, child.wait_with_output()).1
        };
        let output = tokio::time::timeout(TIMEOUT, exchange).await;
        let output = output.with_context(|| format!("kubectl did not finish within {TIMEOUT:?}"))??;
        if !output.status.success() {
            bail!("kubectl: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies all CRDs in a file or folder and waits until the API server serves them.
    pub(super) async fn install_crds(&self, path: &Path) -> anyhow::Result<()> {
        let apply = ["apply", "--server-side", "--validate=false", "--output=name", "--recursive", "--filename"];
        let applied = self.run(apply.map(OsStr::new).into_iter().chain([path.as_os_str()])).await?;
        let names: Vec<&str> = applied.lines().filter_map(|line| Some(line.split_once('/')?.1)).collect();
        // `kubectl wait --for=condition=Established` takes seconds, and fails on a CRD that has no conditions yet.
        let deadline = Instant::now() + CRD_TIMEOUT;
        loop {
            let served = self.run(["api-resources", "--output=name"]).await?;
            let missing: Vec<&&str> = names.iter().filter(|name| !served.lines().any(|line| line == **name)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
            ensure!(Instant::now() < deadline, "the API server does not serve {missing:?} after {CRD_TIMEOUT:?}");
        }
    }
}
