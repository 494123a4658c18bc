//! Identifies processes, and kills them together with their descendants.

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use procfs::process::{Process, Stat, all_processes};
use rustix::process::{Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// Environment variable that every process started from a [`ProcessSpec`](crate::process::ProcessSpec) carries: its folder.
pub(crate) const FOLDER_VARIABLE: &str = "PING_TESTBED_FOLDER";
/// How long a killed process may take to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A process, identified by its number and its start time, so that a reused number is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pid {
    number: i32,
    /// In clock ticks since boot.
    started: u64,
}

impl Pid {
    /// The process that has this number now.
    pub fn of(number: u32) -> Option<Self> {
        Some(Self::from_stat(&stat(i32::try_from(number).ok()?)?))
    }

    /// The current process.
    pub fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.number
    }

    pub(crate) fn started(self) -> u64 {
        self.started
    }

    pub(crate) fn from_parts(number: i32, started: u64) -> Self {
        Self { number, started }
    }

    fn from_stat(stat: &Stat) -> Self {
        Self { number: stat.pid, started: stat.starttime }
    }

    /// Whether it still runs. A zombie does not.
    pub fn is_running(self) -> bool {
        stat(self.number).is_some_and(|stat| stat.starttime == self.started && !has_ended(&stat))
    }

    /// Sends `signal` to this process only.
    pub fn signal(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_running(), rustix::process::Pid::from_raw(self.number)) {
            // The process may have ended since the check, which is fine.
            let _ = kill_process(pid, signal);
        }
    }

    /// Its children, their children and so on, at this moment.
    pub fn descendants(self) -> Vec<Self> {
        let mut children: HashMap<i32, Vec<Self>> = HashMap::new();
        for stat in processes().filter_map(|process| process.stat().ok()) {
            children.entry(stat.ppid).or_default().push(Self::from_stat(&stat));
        }
        let mut found = Vec::new();
        let mut unread = vec![self];
        while let Some(parent) = unread.pop() {
            for child in children.remove(&parent.number).unwrap_or_default() {
                found.push(child);
                unread.push(child);
            }
        }
        found
    }

    /// Every process started with `folder`, or a folder below it, as its working folder, and their descendants.
    pub(crate) fn started_in(folder: &Path) -> Vec<Self> {
        let started_here = |process: &Process| {
            let environment = process.environ().unwrap_or_default();
            environment.get(OsStr::new(FOLDER_VARIABLE)).is_some_and(|value| Path::new(value).starts_with(folder))
        };
        let stats = processes().filter(started_here).filter_map(|process| process.stat().ok());
        stats.filter(|stat| !has_ended(stat)).map(|stat| Self::from_stat(&stat)).collect()
    }

    /// Kills it and all its descendants with SIGKILL and waits until they are gone. Blocks for some milliseconds.
    ///
    /// Postgres gives each backend its own process group, so killing the group is not enough. The process is stopped first
    /// so that it cannot start another child while its children are listed.
    pub fn kill_tree(self) -> anyhow::Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        self.signal(Signal::STOP);
        let mut tree = self.descendants();
        tree.push(self);
        if let Some(group) = rustix::process::Pid::from_raw(self.number) {
            // Fails if it leads no group; its descendants are killed one by one below.
            let _ = kill_process_group(group, Signal::KILL);
        }
        for process in &tree {
            process.signal(Signal::KILL);
        }
        if !wait_until_gone(&tree, KILL_TIMEOUT) {
            bail!("process {} still runs {KILL_TIMEOUT:?} after SIGKILL", self.number);
        }
        Ok(())
    }

    /// Stops it and its descendants without ending them: they keep their connections and answer nothing.
    pub fn suspend_tree(self) {
        self.signal(Signal::STOP);
        for process in self.descendants() {
            process.signal(Signal::STOP);
        }
    }

    /// Continues what `suspend_tree` has stopped.
    pub fn resume_tree(self) {
        for process in self.descendants() {
            process.signal(Signal::CONT);
        }
        self.signal(Signal::CONT);
    }

    /// Waits until it has ended; false if that takes longer than `timeout`. Blocks.
    pub(crate) fn wait_for_exit(self, timeout: Duration) -> bool {
        wait_until_gone(&[self], timeout)
    }
}

fn wait_until_gone(processes: &[Pid], timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    while processes.iter().any(|process| process.is_running()) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

fn stat(number: i32) -> Option<Stat> {
    Process::new(number).ok()?.stat().ok()
}

/// The first thread of a dying JVM is a zombie while the other threads still hold its sockets.
fn has_ended(stat: &Stat) -> bool {
    stat.state == 'Z' && stat.num_threads <= 1
}

fn processes() -> impl Iterator<Item = Process> {
    all_processes().into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_used_again_is_another_process() {
        let own = Pid::own().unwrap();
        assert!(own.is_running());
        assert!(!Pid::from_parts(own.number(), own.started() + 1).is_running());
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("(a) (b) S 1");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("1000").spawn().unwrap();
        let stat = stat(child.id().try_into().unwrap()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let own = Pid::own().unwrap();
        assert_eq!((stat.comm.as_str(), stat.ppid, stat.num_threads), ("(a) (b) S 1", own.number(), 1));
        assert!(stat.starttime >= own.started());
    }

    #[test]
    fn killing_the_tree_reaches_a_grandchild_in_its_own_session() {
        let mut child = std::process::Command::new("sh").args(["-c", "setsid sleep 1000 & wait"]).spawn().unwrap();
        let pid = Pid::of(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while pid.descendants().is_empty() {
            assert!(Instant::now() < deadline);
        }
        let grandchildren = pid.descendants();
        pid.kill_tree().unwrap();
        assert!(grandchildren.iter().all(|grandchild| !grandchild.is_running()));
        child.wait().unwrap();
    }
}
