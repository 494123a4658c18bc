//! A Postgres of our own.

mod template;

use std::{fs, path::PathBuf, time::Duration};

use rustix::process::Signal;
use tokio::process::Command;

use crate::{
    folder::Folder,
    pid::Pid,
    ports::free_port,
    process::{Lifetime, Process, Recipe},
    tools,
};

const STARTS_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// A running Postgres with its default durability, a role `ping` and its database `ping`. Gone when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    folder: Folder,
    port: u16,
}

impl Postgres {
    /// Starts one on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with settings of `postgresql.conf`, which win over those of this module.
    pub async fn start_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::launch(Lifetime::Owned, Folder::create("postgres")?, settings).await
    }

    pub(crate) async fn start_to_leave() -> anyhow::Result<Self> {
        Self::launch(Lifetime::Left, Folder::create_to_leave("postgres")?, &[]).await
    }

    async fn launch(lifetime: Lifetime, folder: Folder, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let template = template::ready().await?;
        let path = folder.path();
        if let Some(user) = user() {
            tools::run(Command::new("chown").arg(format!("{user}:")).arg(path)).await?;
        }
        tools::run(Command::new("cp").arg("-a").arg(template).arg(path.join("data"))).await?;
        let port = free_port()?;
        let own_settings = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port.to_string()),
            ("unix_socket_directories", &path.to_string_lossy()),
            ("max_connections", "200"),
            // Recovery after a kill makes sure that all files are on disk: at once, where one by one takes 3 s.
            ("recovery_init_sync_method", "syncfs"),
        ];
        let mut args = vec!["-D".into(), path.join("data").into()];
        for (name, value) in own_settings.iter().chain(settings) {
            args.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        let process = Process::new(Recipe {
            name: "Postgres",
            program: template::programs()?.join("postgres"),
            args,
            user: user(),
            folder: path.to_owned(),
            lifetime,
            // "Immediate shutdown": as quick as a kill, but it gives its shared memory back.
            farewell: Signal::QUIT,
        });
        let mut postgres = Self { process, folder, port };
        postgres.restart().await?;
        Ok(postgres)
    }

    /// `postgres://ping@127.0.0.1:PORT/ping`: the owner of the database, who may do nothing else.
    pub fn url(&self) -> String {
        format!("postgres://ping@127.0.0.1:{}/ping", self.port)
    }

    /// The same database as superuser.
    pub fn superuser_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/ping", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The running postmaster.
    pub fn pid(&self) -> Option<Pid> {
        self.process.pid()
    }

    /// Kills the postmaster and every backend with SIGKILL, as a crash of the machine would.
    pub async fn kill_9(&mut self) -> anyhow::Result<()> {
        self.process.kill_9().await
    }

    /// "Fast shutdown": rolls back what runs, writes a checkpoint, ends.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::INT, STOPS_WITHIN).await
    }

    /// Starts it again on its data and port; kills it first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let lock_file = self.folder.path().join("data/postmaster.pid");
        self.process.start(STARTS_WITHIN, async |pid| accepts_connections(&lock_file, pid)).await
    }

    pub(crate) fn leave(self) -> (Option<Pid>, PathBuf) {
        (self.process.leave(), self.folder.leave())
    }
}

/// Postgres refuses to run as root; Debian's package makes this user.
fn user() -> Option<&'static str> {
    rustix::process::getuid().is_root().then_some("postgres")
}

/// What `pg_ctl` does too: the postmaster writes its pid into the first line and `ready` into the eighth.
fn accepts_connections(lock_file: &PathBuf, pid: Pid) -> bool {
    let text = fs::read_to_string(lock_file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.number().to_string().as_str()) && lines.get(7) == Some(&"ready")
}
