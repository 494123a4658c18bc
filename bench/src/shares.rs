//! Shares of the cores, as a node of Kubernetes gives them out: a group of its own for every program, with what it requests.
//!
//! Without groups the kernel shares the cores among threads, and who has most threads gets most; or, with `sched_autogroup`, among
//! sessions, of which every backend of Postgres is one.

use std::{fs, io, path::PathBuf};

use anyhow::Context;
use rustix::io::Errno;

use crate::machine;

/// Where the kernel keeps groups, with version 1 of them.
const GROUPS: &str = "/sys/fs/cgroup/cpu";

/// A group of processes, who leave it when it is dropped.
pub(crate) struct Share {
    group: PathBuf,
}

impl Share {
    /// A group called `name` for `pid` and everything below it, which requests `millicores`; none where there are no groups, or
    /// they are not ours to make.
    pub(crate) fn of(name: &str, pid: u32, millicores: u32) -> anyhow::Result<Option<Self>> {
        let group = PathBuf::from(format!("{GROUPS}/ping-bench-{}-{name}", std::process::id()));
        if let Err(error) = fs::create_dir(&group) {
            let refused = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
            return if refused.contains(&error.kind()) { Ok(None) } else { Err(error).context(name.to_owned()) };
        }
        let share = Self { group };
        // As the kubelet does it: 1,024 are a core.
        let shares = u64::from(millicores) * 1_024 / 1_000;
        fs::write(share.group.join("cpu.shares"), shares.to_string()).context("cpu.shares")?;
        for process in machine::family(pid) {
            moved(fs::write(share.group.join("cgroup.procs"), process.to_string())).context("cgroup.procs")?;
        }
        Ok(Some(share))
    }

    fn dissolve(&self) -> io::Result<()> {
        for process in fs::read_to_string(self.group.join("cgroup.procs"))?.lines() {
            moved(fs::write(format!("{GROUPS}/cgroup.procs"), process))?;
        }
        fs::remove_dir(&self.group)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Err(error) = self.dissolve() {
            eprintln!("{} is left behind: {error}", self.group.display());
        }
    }
}

/// A process that has ended needs no move.
fn moved(result: io::Result<()>) -> io::Result<()> {
    let ended = |error: &io::Error| error.raw_os_error() == Some(Errno::SRCH.raw_os_error());
    result.or_else(|error| if ended(&error) { Ok(()) } else { Err(error) })
}
