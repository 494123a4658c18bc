//! CPU shares as on a Kubernetes node: each program gets its own cgroup with the weight of its CPU request.
//!
//! Without cgroups the kernel divides the cores among threads, so the program with the most threads gets the most CPU time. With
//! `sched_autogroup` it divides them among sessions, and every Postgres backend is a session.

use std::{fs, io, path::PathBuf};

use anyhow::Context;
use rustix::io::Errno;

use crate::machine;

/// The CPU controller of cgroups v1.
const CGROUPS: &str = "/sys/fs/cgroup/cpu";

/// A cgroup whose processes are moved out when it is dropped.
pub(crate) struct CpuShare {
    group: PathBuf,
}

impl CpuShare {
    /// Moves `pid` and its descendants into a new cgroup called `name` with the weight of `millicores`. None if the machine has no
    /// cgroups v1 or does not permit creating them.
    pub(crate) fn apply(name: &str, pid: u32, millicores: u32) -> anyhow::Result<Option<Self>> {
        let group = PathBuf::from(format!("{CGROUPS}/ping-bench-{}-{name}", std::process::id()));
        if let Err(error) = fs::create_dir(&group) {
            let unavailable =
                [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
            return if unavailable.contains(&error.kind()) { Ok(None) } else { Err(error).context(name.to_owned()) };
        }
        let share = Self { group };
        // Like the kubelet: 1,024 shares correspond to a core.
        let shares = u64::from(millicores) * 1_024 / 1_000;
        fs::write(share.group.join("cpu.shares"), shares.to_string()).context("cpu.shares")?;
        for process in machine::process_tree(pid) {
            ignore_ended(fs::write(share.group.join("cgroup.procs"), process.to_string())).context("cgroup.procs")?;
        }
        Ok(Some(share))
    }

    fn remove(&self) -> io::Result<()> {
        for process in fs::read_to_string(self.group.join("cgroup.procs"))?.lines() {
            ignore_ended(fs::write(format!("{CGROUPS}/cgroup.procs"), process))?;
        }
        fs::remove_dir(&self.group)
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("cannot remove {}: {error}", self.group.display());
        }
    }
}

/// A process that has ended does not have to be moved.
fn ignore_ended(result: io::Result<()>) -> io::Result<()> {
    let ended = |error: &io::Error| error.raw_os_error() == Some(Errno::SRCH.raw_os_error());
    result.or_else(|error| if ended(&error) { Ok(()) } else { Err(error) })
}
