//! Who a process is, and how to end it with everything it started.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use rustix::process::{Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// Environment of every process that a [`Recipe`](crate::process::Recipe) starts: its folder.
pub(crate) const FOLDER_VARIABLE: &str = "PING_TESTBED_FOLDER";
/// How long a killed process may take to vanish.
const VANISHES: Duration = Duration::from_secs(10);

/// A process: its number and when it started, so that a number used again is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pid {
    number: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl Pid {
    /// The process that has this number now.
    pub fn of(number: u32) -> Option<Self> {
        let number = i32::try_from(number).ok()?;
        Some(Self { number, started: Stat::read(number)?.started })
    }

    /// This very process.
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

    /// Whether it still runs. One that ended and waits for its parent to notice does not.
    pub fn is_running(self) -> bool {
        Stat::read(self.number).is_some_and(|stat| stat.started == self.started && !stat.has_ended())
    }

    /// Asks it, and it alone, with `signal`.
    pub fn signal(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_running(), rustix::process::Pid::from_raw(self.number)) {
            // It may end between the two lines; then there is nobody left to ask.
            let _ = kill_process(pid, signal);
        }
    }

    /// What it started, and what those started, at this moment.
    pub fn descendants(self) -> Vec<Self> {
        let mut children: HashMap<i32, Vec<Self>> = HashMap::new();
        for (number, stat) in all_processes() {
            children.entry(stat.parent).or_default().push(Self { number, started: stat.started });
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

    /// Whoever was started to work in `folder` or below it, and what those started, noted or not.
    pub(crate) fn all_of_folder(folder: &Path) -> Vec<Self> {
        let started_there = |number: i32| {
            let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| {
                let value = variable.strip_prefix(FOLDER_VARIABLE.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
                value.is_some_and(|value| Path::new(OsStr::from_bytes(value)).starts_with(folder))
            })
        };
        let found = all_processes().filter(|(number, stat)| !stat.has_ended() && started_there(*number));
        found.map(|(number, stat)| Self { number, started: stat.started }).collect()
    }

    /// Kills it and all its descendants with SIGKILL and waits until they are gone. Blocks for some milliseconds.
    ///
    /// Postgres gives each backend a process group of its own, so killing the group is not enough. The process is
    /// stopped first: what stands still starts no new child while its children are listed.
    pub fn kill_tree(self) -> anyhow::Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        self.signal(Signal::STOP);
        let mut tree = self.descendants();
        tree.push(self);
        if let Some(group) = rustix::process::Pid::from_raw(self.number) {
            // Fails when it leads no group; its descendants are killed one by one below.
            let _ = kill_process_group(group, Signal::KILL);
        }
        for process in &tree {
            process.signal(Signal::KILL);
        }
        if !vanish(&tree, VANISHES) {
            bail!("process {} does not die", self.number);
        }
        Ok(())
    }

    /// Waits until it has ended. Blocks.
    pub(crate) fn ends_within(self, limit: Duration) -> bool {
        vanish(&[self], limit)
    }
}

fn vanish(processes: &[Pid], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while processes.iter().any(|process| process.is_running()) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// What is used of `/proc/<pid>/stat`.
struct Stat {
    state: char,
    parent: i32,
    threads: u32,
    started: u64,
}

impl Stat {
    /// The first thread of a dying JVM is a zombie while the others still hold its sockets.
    fn has_ended(&self) -> bool {
        self.state == 'Z' && self.threads <= 1
    }

    fn read(number: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{number}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in brackets may itself hold brackets and spaces.
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

fn all_processes() -> impl Iterator<Item = (i32, Stat)> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, Stat::read(number)?))
    })
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
        let line = "7 (a) (b) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.threads, stat.started), ('S', 3, 1, 4242));
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
