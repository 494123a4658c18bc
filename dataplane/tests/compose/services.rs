//! Services that run `pingd`, as processes.

use std::{path::Path, process::Stdio, time::Instant};

use ping_testbed::ports::free_port;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::TIMEOUT;

const PINGD: &str = env!("CARGO_BIN_EXE_pingd");
/// What a container listens on.
const LISTEN: &str = "0.0.0.0:8080";

/// `PATH` with the programs of the image in front.
pub(crate) fn path() -> String {
    format!("{}:{}", Path::new(PINGD).parent().unwrap().display(), std::env::var("PATH").unwrap())
}

/// Runs `pingctl` against a server; returns its output.
pub(crate) async fn pingctl(server: &str, arguments: &[&str]) -> String {
    let output = Command::new(Path::new(PINGD).with_file_name("pingctl"))
        .args(arguments)
        .args(["--addr", server])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "pingctl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) struct Service {
    name: String,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    check: Vec<String>,
    child: Option<Child>,
    /// HOST:PORT of the API.
    pub(crate) api: String,
    admin: String,
    folder: TempDir,
}

impl Service {
    /// A service with its command, its environment and its health check, if it has one.
    pub(crate) fn new(
        name: &str,
        command: &[String],
        mut environment: Vec<(String, String)>,
        check: Vec<String>,
    ) -> Self {
        let [api, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let command = command.iter().map(|part| part.replace(LISTEN, &api)).collect();
        environment.push(("PING_ADMIN_LISTEN".into(), admin.clone()));
        let folder = tempfile::tempdir().unwrap();
        Self { name: name.to_owned(), command, environment, check, child: None, api, admin, folder }
    }

    fn process(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", PINGD]).args(&self.command).envs(self.environment.iter().cloned());
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command
    }

    pub(crate) async fn run_to_its_end(self) {
        let output = self.process().output().await.unwrap();
        assert!(output.status.success(), "{}: {output:?}", self.name);
    }

    pub(crate) fn start(&mut self) {
        self.child = Some(self.process().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    pub(crate) fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Runs the service's health check until it succeeds.
    pub(crate) async fn wait_until_healthy(&self) {
        assert_eq!(self.check[..2], ["CMD", "pingctl"], "the image has no other program to check it with");
        let check: Vec<_> = self.check[2..].iter().map(|part| part.replace("localhost:8080", &self.api)).collect();
        let started = Instant::now();
        loop {
            let output = Command::new("pingctl").args(&check).env("PATH", path()).output().await.unwrap();
            if output.status.success() {
                return;
            }
            assert!(started.elapsed() < TIMEOUT, "{} is not healthy: {output:?}", self.name);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// Number of requests that it has answered.
    pub(crate) async fn requests(&self) -> u64 {
        let url = format!("http://{}/metrics", self.admin);
        let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
        let counts = metrics.lines().filter(|line| line.starts_with("ping_rpc_request_duration_seconds_count"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn folder_is_empty(&self) -> bool {
        self.folder.path().read_dir().unwrap().next().is_none()
    }
}
