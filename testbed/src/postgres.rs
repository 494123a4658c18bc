//! A Postgres server.

mod encrypted;
mod template;
mod volume;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::process::Command;

pub use self::volume::VolumeContent;
use crate::{
    clock::Clock,
    folder::Folder,
    pid::Pid,
    ports::free_port,
    process::{Lifetime, Process, ProcessSpec},
    tools,
    volume::Volume,
};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running Postgres with default durability and a role `ping` that owns the database `ping`. Stops when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    folder: Folder,
    volume: Option<Volume>,
    port: u16,
}

/// How a Postgres is started.
#[derive(Default)]
struct Launch<'a> {
    /// Of `postgresql.conf`.
    settings: &'a [(&'a str, &'a str)],
    clock: Option<&'a Clock>,
    /// A volume of its own, with its size in MiB.
    volume: Option<(VolumeContent, u32)>,
}

impl Postgres {
    /// Starts a Postgres on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a Postgres on a free port with settings of `postgresql.conf`, which override those of this module.
    pub async fn start_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::launch(Lifetime::Owned, Folder::create("postgres")?, Launch { settings, ..Launch::default() }).await
    }

    /// Starts a Postgres on a free port that sees the time of `clock`.
    pub async fn start_with_clock(clock: &Clock) -> anyhow::Result<Self> {
        let launch = Launch { clock: Some(clock), ..Launch::default() };
        Self::launch(Lifetime::Owned, Folder::create("postgres")?, launch).await
    }

    /// Starts a Postgres whose data, or write-ahead log, is on a volume of this many MiB. Needs root.
    pub async fn start_on_volume(
        content: VolumeContent,
        mebibytes: u32,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let launch = Launch { settings, volume: Some((content, mebibytes)), ..Launch::default() };
        Self::launch(Lifetime::Owned, Folder::create("postgres")?, launch).await
    }

    /// Starts an asynchronous standby of the Postgres behind the port `primary` of this machine.
    pub async fn start_standby(primary: u16) -> anyhow::Result<Self> {
        let folder = Folder::create("postgres")?;
        give_to_user(&folder).await?;
        let mut copy = template::as_user(&template::programs()?.join("pg_basebackup"), folder.path());
        copy.args(["-D", "data", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-U", "postgres"]);
        tools::run(copy.args(["-h", "127.0.0.1", "-p", &primary.to_string()])).await?;
        Self::launch_in(Lifetime::Owned, folder, Launch::default()).await
    }

    /// Makes a standby a primary. What has not reached it by now is lost.
    pub async fn promote(&self) -> anyhow::Result<()> {
        let mut promote = template::as_user(&template::programs()?.join("pg_ctl"), self.folder.path());
        tools::run(promote.args(["promote", "-D", "data"])).await.map(drop)
    }

    pub(crate) async fn start_detached() -> anyhow::Result<Self> {
        Self::launch(Lifetime::Detached, Folder::create_detached("postgres")?, Launch::default()).await
    }

    async fn launch(lifetime: Lifetime, folder: Folder, launch: Launch<'_>) -> anyhow::Result<Self> {
        let template = template::ready().await?;
        give_to_user(&folder).await?;
        tools::run(Command::new("cp").arg("-a").arg(template).arg(folder.path().join("data"))).await?;
        Self::launch_in(lifetime, folder, launch).await
    }

    /// Starts it on the data in `folder`.
    async fn launch_in(lifetime: Lifetime, folder: Folder, launch: Launch<'_>) -> anyhow::Result<Self> {
        let path = folder.path();
        let volume = match launch.volume {
            Some((content, mebibytes)) => Some(content.mount(path, mebibytes).await?),
            None => None,
        };
        let port = free_port()?;
        let own_settings = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port.to_string()),
            ("unix_socket_directories", &path.to_string_lossy()),
            ("max_connections", "200"),
            // Recovery after a kill syncs all files. Syncing the file system once saves 3 s.
            ("recovery_init_sync_method", "syncfs"),
        ];
        let mut args = vec!["-D".into(), path.join("data").into()];
        for (name, value) in own_settings.iter().chain(launch.settings) {
            args.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        let process = Process::new(ProcessSpec {
            name: "Postgres",
            program: template::programs()?.join("postgres"),
            args,
            env: launch.clock.map(Clock::env).unwrap_or_default(),
            user: user(),
            folder: path.to_owned(),
            lifetime,
            // "Immediate shutdown" is as fast as a kill, but releases the shared memory.
            stop_signal: Signal::QUIT,
        });
        let mut postgres = Self { process, folder, volume, port };
        postgres.restart().await?;
        Ok(postgres)
    }

    /// `postgres://ping@127.0.0.1:PORT/ping`: connects as the owner of the database, who has no other privileges.
    pub fn url(&self) -> String {
        format!("postgres://ping@127.0.0.1:{}/ping", self.port)
    }

    /// The URL of the same database for the superuser.
    pub fn superuser_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/ping", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The running postmaster.
    pub fn pid(&self) -> Option<Pid> {
        self.process.pid()
    }

    /// Whether the postmaster runs: it ends by itself if it cannot recover.
    pub fn is_running(&self) -> bool {
        self.pid().is_some_and(Pid::is_running)
    }

    /// Kills the postmaster and every backend with SIGKILL, like a crash of the machine.
    pub async fn kill_9(&mut self) -> anyhow::Result<()> {
        self.process.kill_9().await
    }

    /// "Fast shutdown": rolls back open transactions, writes a checkpoint and exits.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::INT, STOP_TIMEOUT).await
    }

    /// Starts it again on the same data and port; kills it first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let lock_file = self.folder.path().join("data/postmaster.pid");
        self.process.start(START_TIMEOUT, async |pid| accepts_connections(&lock_file, pid)).await
    }

    /// Occupies all of its volume but `left` bytes.
    pub fn fill_volume(&self, left: u64) -> anyhow::Result<()> {
        self.volume.as_ref().context("it has no volume")?.fill(left)
    }

    /// Makes its volume as large as this many MiB, while it runs or not.
    pub async fn grow_volume(&self, mebibytes: u32) -> anyhow::Result<()> {
        self.volume.as_ref().context("it has no volume")?.grow(mebibytes).await
    }

    /// Copies its data, and starts it again: what a backup is. Replaces an earlier copy.
    pub async fn back_up(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        replace(&self.folder.path().join("backup"), &self.folder.path().join("data")).await?;
        self.restart().await
    }

    /// Kills it and puts the copied data in place. [`Self::restart`] starts it.
    pub async fn restore_backup(&mut self) -> anyhow::Result<()> {
        self.kill_9().await?;
        replace(&self.folder.path().join("data"), &self.folder.path().join("backup")).await
    }

    pub(crate) fn detach(self) -> (Option<Pid>, PathBuf) {
        (self.process.detach(), self.folder.keep())
    }
}

/// Replaces the folder `to` by a copy of `from`.
async fn replace(to: &Path, from: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    tools::run(Command::new("cp").arg("-a").arg(from).arg(to)).await.map(drop)
}

/// Postgres refuses to run as root. Debian's package creates this user.
fn user() -> Option<&'static str> {
    rustix::process::getuid().is_root().then_some("postgres")
}

/// Makes `folder` one of the user that Postgres runs as.
async fn give_to_user(folder: &Folder) -> anyhow::Result<()> {
    if let Some(user) = user() {
        tools::run(Command::new("chown").arg(format!("{user}:")).arg(folder.path())).await?;
    }
    Ok(())
}

/// Like `pg_ctl`: the postmaster writes its pid to the first line, and `ready` or `standby` to the eighth.
fn accepts_connections(lock_file: &PathBuf, pid: Pid) -> bool {
    let text = fs::read_to_string(lock_file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.number().to_string().as_str()) && matches!(lines.get(7), Some(&"ready" | &"standby"))
}
