//! A Redis server, used as the cache.

use std::{fs, net::Ipv4Addr, time::Duration};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    certificates::Leaf,
    clock::Clock,
    folder::Folder,
    pid::Pid,
    ports::free_port,
    process::{Lifetime, Process, ProcessSpec},
    tools,
};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running Redis. Stops when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    folder: Folder,
    port: u16,
    encrypted: bool,
}

impl Redis {
    /// Starts an empty Redis on a free port that syncs its data to an append-only file once a second.
    pub async fn start() -> anyhow::Result<Self> {
        Self::launch(Lifetime::Owned, Folder::create("redis")?, "yes", None).await
    }

    /// Starts an empty Redis on a free port, with an append-only file, that sees the time of `clock`.
    pub async fn start_with_clock(clock: &Clock) -> anyhow::Result<Self> {
        Self::launch(Lifetime::Owned, Folder::create("redis")?, "yes", Some(clock)).await
    }

    /// Starts an empty Redis without an append-only file, like a Dragonfly without snapshots: it never forks to rewrite the file.
    pub async fn start_in_memory() -> anyhow::Result<Self> {
        Self::launch(Lifetime::Owned, Folder::create("redis")?, "no", None).await
    }

    /// Starts an empty Redis without an append-only file that refuses changes once it uses this many bytes.
    pub async fn start_bounded(bytes: u64) -> anyhow::Result<Self> {
        let (port, bytes) = (free_port()?, bytes.to_string());
        let port_text = port.to_string();
        let settings = ["--port", &port_text, "--maxmemory", &bytes, "--maxmemory-policy", "noeviction"];
        Self::launch_with(Lifetime::Owned, Folder::create("redis")?, port, &settings, Vec::new()).await
    }

    /// Starts an empty Redis without an append-only file on a free port that accepts TLS only. `acl` is its access control list, one
    /// user per line.
    pub async fn start_encrypted(certificate: &Leaf, acl: &str) -> anyhow::Result<Self> {
        let folder = Folder::create("redis")?;
        certificate.write(folder.path())?;
        fs::write(folder.path().join("users.acl"), acl)?;
        let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let (certificate, key, acl) = (file("tls.crt"), file("tls.key"), file("users.acl"));
        let more = [
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            ["--tls-auth-clients", "no"],
            ["--aclfile", &acl],
        ];
        let port = free_port()?;
        let port_text = port.to_string();
        let ports = [["--port", "0"], ["--tls-port", &port_text]];
        let settings = [ports.as_flattened(), more.as_flattened()].concat();
        Self::launch_with(Lifetime::Owned, folder, port, &settings, Vec::new()).await
    }

    pub(crate) async fn start_detached() -> anyhow::Result<Self> {
        Self::launch(Lifetime::Detached, Folder::create_detached("redis")?, "yes", None).await
    }

    async fn launch(
        lifetime: Lifetime,
        folder: Folder,
        appendonly: &str,
        clock: Option<&Clock>,
    ) -> anyhow::Result<Self> {
        let port = free_port()?;
        let port_text = port.to_string();
        let settings = ["--port", &port_text, "--appendonly", appendonly, "--appendfsync", "everysec"];
        let env = clock.map(Clock::env).unwrap_or_default();
        Self::launch_with(lifetime, folder, port, &settings, env).await
    }

    async fn launch_with(
        lifetime: Lifetime,
        folder: Folder,
        port: u16,
        settings: &[&str],
        env: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let settings = [["--bind", "127.0.0.1", "--save", ""].as_slice(), settings].concat();
        let process = Process::new(ProcessSpec {
            name: "Redis",
            program: tools::on_path("redis-server")?,
            args: settings.iter().map(Into::into).collect(),
            env,
            user: None,
            folder: folder.path().to_owned(),
            lifetime,
            stop_signal: Signal::KILL,
        });
        let encrypted = settings.contains(&"--tls-port");
        let mut redis = Self { process, folder, port, encrypted };
        redis.start_process().await?;
        Ok(redis)
    }

    async fn start_process(&mut self) -> anyhow::Result<()> {
        let (port, encrypted) = (self.port, self.encrypted);
        let is_ready = async |_| match encrypted {
            true => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok(),
            false => is_ready(port).await.unwrap_or(false),
        };
        self.process.start(START_TIMEOUT, is_ready).await
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://localhost:PORT` if it accepts TLS only.
    pub fn url(&self) -> String {
        match self.encrypted {
            true => format!("rediss://localhost:{}", self.port),
            false => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The running process.
    pub fn pid(&self) -> Option<Pid> {
        self.process.pid()
    }

    /// Kills it with SIGKILL.
    pub async fn kill_9(&mut self) -> anyhow::Result<()> {
        self.process.kill_9().await
    }

    /// Starts it again on the same port with the data of the append-only file; kills it first if it runs.
    pub async fn restart_with_data(&mut self) -> anyhow::Result<()> {
        self.start_process().await
    }

    /// Starts it again on the same port without data; kills it first if it runs.
    pub async fn restart_empty(&mut self) -> anyhow::Result<()> {
        self.kill_9().await?;
        fs::remove_dir_all(self.folder.path().join("appendonlydir"))?;
        self.start_process().await
    }

    pub(crate) fn detach(self) -> (Option<Pid>, std::path::PathBuf) {
        (self.process.detach(), self.folder.keep())
    }
}

/// Redis answers `-LOADING` while it still reads its append-only file.
async fn is_ready(port: u16) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    connection.write_all(b"PING\r\n").await?;
    let mut reply = [0; 7];
    connection.read_exact(&mut reply).await?;
    Ok(&reply == b"+PONG\r\n")
}
