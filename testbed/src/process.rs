//! A process that goes when its owner goes, in whichever way that happens.

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

/// How often a starting process is asked whether it is ready.
const POLL: Duration = Duration::from_millis(10);
/// How much of a log an error shows.
const TAIL_BYTES: u64 = 4_000;
/// How long a process may take to follow its farewell signal before it is killed.
pub(crate) const FAREWELL: Duration = Duration::from_secs(3);

/// How long a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as its owner; the kernel sends its farewell signal when this process is killed.
    Owned,
    /// Until somebody ends it: it may outlive this process, see [`Process::leave`].
    Left,
}

/// How to start a process: the same way each time.
#[derive(Debug)]
pub struct Recipe {
    /// What errors call it.
    pub name: &'static str,
    /// What to run, and with which arguments.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Runs as this user; `None` is the user we are.
    pub user: Option<&'static str>,
    /// Where it runs, and where its output goes, into a file named `log`.
    pub folder: PathBuf,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Ends it at once when it is dropped or its owner is killed. KILL, or QUIT if a killed program would leave something
    /// behind in the kernel.
    pub farewell: Signal,
}

/// A process started by a [`Recipe`], again and again if need be. Ended when dropped.
#[derive(Debug)]
pub struct Process {
    recipe: Recipe,
    running: Option<(Child, Pid)>,
}

impl Process {
    /// Nothing runs yet.
    pub fn new(recipe: Recipe) -> Self {
        Self { recipe, running: None }
    }

    /// Starts it and waits until `ready` says so. An error holds the end of its log. One that still runs is killed first.
    pub async fn start(&mut self, limit: Duration, ready: impl AsyncFn(Pid) -> bool) -> anyhow::Result<()> {
        self.kill_9().await?;
        let name = self.recipe.name;
        let child = spawn(self.recipe.command()?).with_context(|| format!("cannot run {name}"))?;
        let pid = Pid::of(child.id()).with_context(|| format!("cannot read /proc for {name}"))?;
        let (child, _) = self.running.insert((child, pid));
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended as it started: {status}\n{}", self.recipe.log_tail());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, ready(pid)).await {
                Ok(true) => return Ok(()),
                Ok(false) => tokio::time::sleep(POLL).await,
                Err(_) => bail!("{name} is not ready after {limit:?}\n{}", self.recipe.log_tail()),
            }
        }
    }

    /// Kills it and everything it started, with SIGKILL, and returns when all of it is gone.
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

    /// Asks it to end by `signal` and waits for it; kills it after `limit`, which is an error.
    pub async fn stop(&mut self, signal: Signal, limit: Duration) -> anyhow::Result<()> {
        let Some((child, pid)) = &mut self.running else { return Ok(()) };
        pid.signal(signal);
        let deadline = Instant::now() + limit;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.kill_9().await?;
                bail!("{} did not end within {limit:?}\n{}", self.recipe.name, self.recipe.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
        self.running = None;
        Ok(())
    }

    /// The running process.
    pub fn pid(&self) -> Option<Pid> {
        self.running.as_ref().map(|(_, pid)| *pid)
    }

    /// The file that holds its output.
    pub fn log(&self) -> PathBuf {
        self.recipe.log()
    }

    /// Lets it run on without an owner. It must have been started as [`Lifetime::Left`].
    pub fn leave(mut self) -> Option<Pid> {
        self.running.take().map(|(_, pid)| pid)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some((mut child, pid)) = self.running.take() {
            if self.recipe.farewell != Signal::KILL {
                pid.signal(self.recipe.farewell);
                pid.ends_within(FAREWELL);
            }
            // Nobody is left to hear of a failure.
            if pid.kill_tree().is_ok() {
                let _ = child.wait();
            }
        }
    }
}

impl Recipe {
    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn command(&self) -> anyhow::Result<Command> {
        // A small program between us and ours, because setting this up from here takes unsafe code. It ends in exec, so
        // the pid stays.
        let mut setpriv: Vec<&str> = Vec::new();
        if self.lifetime == Lifetime::Owned {
            let farewell = if self.farewell == Signal::QUIT { "QUIT" } else { "KILL" };
            setpriv.extend(["--pdeathsig", farewell]);
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
        // A developer's PGPORT or JAVA_TOOL_OPTIONS is not for these.
        command.env_clear().env("LANG", "C.UTF-8").env(pid::FOLDER_VARIABLE, &self.folder);
        for name in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        Ok(command)
    }

    fn log_tail(&self) -> String {
        let path = self.log();
        let text = tail(&path).unwrap_or_else(|error| format!("unreadable: {error}"));
        format!("the end of {}:\n{}", path.display(), text.trim_end())
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is cut off somewhere.
    let whole_lines = if start > 0 { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    Ok(whole_lines.to_owned())
}

/// Spawns from one thread that lives as long as this process.
///
/// The kernel ends an owned process when the *thread* that started it ends, and a test's thread ends with the test,
/// although a part shared by several tests lives on.
fn spawn(command: Command) -> anyhow::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // Whoever ordered it waits for the reply.
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    spawner.send((command, reply)).context("the spawning thread is gone")?;
    Ok(child.recv().context("the spawning thread is gone")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Process {
        Process::new(Recipe {
            name: "a shell",
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            user: None,
            folder: folder.to_owned(),
            lifetime: Lifetime::Owned,
            farewell: Signal::KILL,
        })
    }

    #[tokio::test]
    async fn one_that_ends_early_says_what_it_printed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "echo no such disk; exit 3");
        let error = process.start(Duration::from_secs(5), async |_| false).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such disk"), "{error}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_given_up() {
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
    async fn one_that_nobody_noted_is_found_by_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("part");
        std::fs::create_dir(&below).unwrap();
        let mut process = shell(&below, "sleep 100 & wait");
        process.recipe.lifetime = Lifetime::Left;
        process.start(Duration::from_secs(5), async |pid| !pid.descendants().is_empty()).await.unwrap();
        let pid = process.pid().unwrap();
        // As when its owner is killed before it could note it.
        std::mem::forget(process);
        let other = tempfile::tempdir().unwrap();
        assert!(Pid::all_of_folder(other.path()).is_empty());
        let found = Pid::all_of_folder(folder.path());
        assert!(found.contains(&pid) && found.len() == 2, "{found:?} without {pid:?} and its child");
        for process in found {
            process.kill_tree().unwrap();
        }
        assert!(!pid.is_running());
    }

    #[tokio::test]
    async fn one_started_by_a_thread_that_ended_lives_on() {
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
