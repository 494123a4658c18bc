//! Debian's nginx with the configuration that compose.yaml mounts.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use ping_testbed::ports::free_port;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{TIMEOUT, file::Compose};

pub(crate) struct Nginx {
    /// HOST:PORT for HTTP.
    pub(crate) http: String,
    /// HOST:PORT for gRPC.
    pub(crate) grpc: String,
    client: reqwest::Client,
    _process: Child,
    _folder: TempDir,
}

/// Debian installs it for root's `PATH`.
fn program() -> PathBuf {
    let folders = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    let mut files = folders.into_iter().chain([PathBuf::from("/usr/sbin")]).map(|folder| folder.join("nginx"));
    files.find(|file| file.exists()).expect("nginx is missing: run testbed/install.sh nginx")
}

impl Nginx {
    pub(crate) async fn start(compose: &Compose) -> Self {
        let [http, grpc] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let ports = compose.list("nginx", "/ports");
        assert_eq!(ports, ["127.0.0.1:8080:8080", "127.0.0.1:8090:8090"]);
        let mounted = compose.text("nginx", "/volumes/0");
        let file = mounted.split_once(":/etc/nginx/conf.d/default.conf").expect("nginx reads it").0;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
        let text = compose.here(&fs::read_to_string(file).unwrap());
        let text =
            text.replace("listen 8080", &format!("listen {http}")).replace("listen 8090", &format!("listen {grpc}"));

        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("default.conf"), text).unwrap();
        // What the image has around it. A single process is killed with this one.
        fs::write(
            folder.path().join("nginx.conf"),
            "daemon off; master_process off; pid pid; error_log stderr;
             events {}
             http {
                 access_log off;
                 client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                 uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                 include default.conf;
             }",
        )
        .unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program()).arg("-p").arg(folder.path()).arg("-c");
        command.arg(folder.path().join("nginx.conf")).stdout(Stdio::null());
        let mut process = command.stderr(fs::File::create(&log).unwrap()).kill_on_drop(true).spawn().unwrap();
        let started = Instant::now();
        while TcpStream::connect(&http).is_err() {
            let said = fs::read_to_string(&log).unwrap();
            assert!(process.try_wait().unwrap().is_none() && started.elapsed() < TIMEOUT, "nginx: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { http, grpc, client: reqwest::Client::new(), _process: process, _folder: folder }
    }

    /// Calls a method by Connect JSON; status and body, or nothing without an answer.
    pub(crate) async fn call(&self, method: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.client.post(format!("http://{}/ping.v1.{method}", self.http)).json(body);
        let answer = request.timeout(Duration::from_secs(20)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
    }

    pub(crate) async fn page(&self) -> String {
        self.client.get(format!("http://{}/", self.http)).send().await.unwrap().text().await.unwrap()
    }
}
