//! Processes that end with their owner, even if the owner is killed.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::{
    pid::{self, Pid},
    tools,
};

/// How often a starting process is checked for readiness.
const POLL: Duration = Duration::from_millis(10);
/// How much of the log an error contains.
const TAIL_BYTES: u64 = 4_000;
/// How long a process may take to exit after its stop signal before it is killed.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as its owner. If the owner is killed, the kernel sends the process its stop signal.
    Owned,
    /// Until it is killed explicitly. It may outlive its owner; see [`Process::detach`].
    Detached,
}

/// How to start a process.
#[derive(Debug)]
pub struct ProcessSpec {
    /// Its name in errors.
    pub name: &'static str,
    /// The program to run.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables of its environment, besides those that every process has.
    pub env: Vec<(&'static str, String)>,
    /// The user to run it as; `None` for the current user.
    pub user: Option<&'static str>,
    /// Its working folder, which also receives its output in a file named `log`.
    pub folder: PathBuf,
    /// How long it runs.
    pub lifetime: Lifetime,
    /// The signal that ends it when it is dropped or its owner is killed: KILL, or QUIT for a program that has to release kernel
    /// resources.
    pub stop_signal: Signal,
}

/// A process that can be started repeatedly from its [`ProcessSpec`]. Stops when dropped.
#[derive(Debug)]
pub struct Process {
    spec: ProcessSpec,
    running: Option<(Child, Pid)>,
}

impl Process {
    /// Does not start it yet.
    pub fn new(spec: ProcessSpec) -> Self {
        Self { spec, running: None }
    }

    /// Starts it and waits until `ready` returns true; kills it first if it runs. An error contains the end of its log.
    pub async fn start(&mut self, timeout: Duration, ready: impl AsyncFn(Pid) -> bool) -> anyhow::Result<()> {
        self.kill_9().await?;
        let name = self.spec.name;
        let child = spawn(self.spec.command()?).with_context(|| format!("cannot run {name}"))?;
        let pid = Pid::of(child.id()).with_context(|| format!("cannot read /proc for {name}"))?;
        let (child, _) = self.running.insert((child, pid));
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("{name} exited during startup: {status}\n{}", self.spec.log_tail());
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(remaining, ready(pid)).await {
                Ok(true) => return Ok(()),
                Ok(false) => tokio::time::sleep(POLL).await,
                Err(_) => bail!("{name} is not ready after {timeout:?}\n{}", self.spec.log_tail()),
            }
        }
    }

    /// Kills it and its descendants with SIGKILL and returns when they are gone.
    pub async fn kill_9(&mut self) -> anyhow::Result<()> {
        if let Some((mut child, pid)) = self.running.take() {
            tokio::task::spawn_blocking(move || {
                pid.kill_tree()?;
                child.wait()?;
                anyhow::Ok(())
            })
            .await??;
        }
        Ok(())
    }

    /// Sends `signal` and waits until it has exited; kills it after `timeout`, which is an error.
    pub async fn stop(&mut self, signal: Signal, timeout: Duration) -> anyhow::Result<()> {
        let Some((child, pid)) = &mut self.running else { return Ok(()) };
        pid.signal(signal);
        let deadline = Instant::now() + timeout;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.kill_9().await?;
                bail!("{} did not exit within {timeout:?}\n{}", self.spec.name, self.spec.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
        self.running = None;
        Ok(())
    }

    /// Its process id, if it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.running.as_ref().map(|(_, pid)| *pid)
    }

    /// The file that holds its output.
    pub fn log(&self) -> PathBuf {
        self.spec.log()
    }

    /// Keeps it running when this value is dropped. Requires [`Lifetime::Detached`].
    pub fn detach(mut self) -> Option<Pid> {
        self.running.take().map(|(_, pid)| pid)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some((mut child, pid)) = self.running.take() {
            if self.spec.stop_signal != Signal::KILL {
                pid.signal(self.spec.stop_signal);
                pid.wait_for_exit(SHUTDOWN_TIMEOUT);
            }
            // There is no way to report a failure from here.
            if pid.kill_tree().is_ok() {
                let _ = child.wait();
            }
        }
    }
}

impl ProcessSpec {
    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn command(&self) -> anyhow::Result<Command> {
        // `setpriv` does this setup because doing it here requires unsafe code. It calls exec, so the pid stays the same.
        let mut setpriv: Vec<&str> = Vec::new();
        if self.lifetime == Lifetime::Owned {
            let signal = if self.stop_signal == Signal::QUIT { "QUIT" } else { "KILL" };
            setpriv.extend(["--pdeathsig", signal]);
        }
        if let Some(user) = self.user {
            setpriv.extend(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        let mut command = if setpriv.is_empty() {
            Command::new(&self.program)
        } else {
            let mut command = Command::new(tools::on_path("setpriv")?);
            command.args(setpriv).arg(&self.program);
            command
        };
        command.args(&self.args).current_dir(&self.folder).process_group(0);
        let log = OpenOptions::new().create(true).append(true).open(self.log());
        let log = log.with_context(|| format!("cannot open {}", self.log().display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Excludes a developer's settings, such as PGPORT or JAVA_TOOL_OPTIONS.
        command.env_clear().env("LANG", "C.UTF-8").env(pid::FOLDER_VARIABLE, &self.folder);
        for name in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    fn log_tail(&self) -> String {
        let path = self.log();
        let text = tail(&path).unwrap_or_else(|error| format!("cannot read the log: {error}"));
        format!("last lines of {}:\n{}", path.display(), text.trim_end())
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is probably incomplete.
    let whole_lines = if start > 0 { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    Ok(whole_lines.to_owned())
}

/// Spawns from a thread that runs as long as this process.
///
/// The kernel ends an owned process when the *thread* that started it ends. A test's thread ends with the test, but a part that
/// several tests share must keep running.
fn spawn(command: Command) -> anyhow::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The receiver exists because `spawn` waits for the reply.
                let _ = reply.send(command.spawn());
            }
        });
        requests
    });
    let (reply, child) = mpsc::channel();
    spawner.send((command, reply)).context("the spawning thread has ended")?;
    Ok(child.recv().context("the spawning thread has ended")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Process {
        Process::new(ProcessSpec {
            name: "a shell",
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            user: None,
            folder: folder.to_owned(),
            lifetime: Lifetime::Owned,
            stop_signal: Signal::KILL,
        })
    }

    #[tokio::test]
    async fn a_process_that_exits_early_is_reported_with_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "echo no such disk; exit 3");
        let error = process.start(Duration::from_secs(5), async |_| false).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such disk"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "echo thinking; sleep 100");
        let limit = Duration::from_millis(300);
        let error = process.start(limit, async |_| std::future::pending().await).await.unwrap_err().to_string();
        assert!(error.contains("not ready after 300ms") && error.contains("thinking"), "{error}");
        let pid = process.pid().unwrap();
        drop(process);
        assert!(!pid.is_running());
    }

    #[tokio::test]
    async fn an_unrecorded_process_is_found_by_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("part");
        std::fs::create_dir(&below).unwrap();
        let mut process = shell(&below, "sleep 100 & wait");
        process.spec.lifetime = Lifetime::Detached;
        process.start(Duration::from_secs(5), async |pid| !pid.descendants().is_empty()).await.unwrap();
        let pid = process.pid().unwrap();
        // As if its owner was killed before it could record the process.
        std::mem::forget(process);
        let other = tempfile::tempdir().unwrap();
        assert!(Pid::started_in(other.path()).is_empty());
        let found = Pid::started_in(folder.path());
        assert!(found.contains(&pid) && found.len() == 2, "{found:?} is not {pid:?} and its child");
        for process in found {
            process.kill_tree().unwrap();
        }
        assert!(!pid.is_running());
    }

    #[tokio::test]
    async fn a_process_outlives_the_thread_that_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let process = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut process = shell(&path, "sleep 100");
            runtime.block_on(process.start(Duration::from_secs(5), async |_| true)).unwrap();
            process
        });
        let process = process.join().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(process.pid().unwrap().is_running());
    }
}
