//! Limits of memory and disk for processes of a test. They need root: see [`Cgroup`].

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::fs::{major, minor};

use crate::pid::Pid;

const ROOT: &str = "/sys/fs/cgroup";
/// How long the kernel may take to release a group without processes.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// The names of a limit in both versions of cgroups.
struct Limit {
    v1_controller: &'static str,
    v1_file: &'static str,
    v2_controller: &'static str,
    v2_file: &'static str,
}

const MEMORY: Limit =
    Limit { v1_controller: "memory", v1_file: "memory.limit_in_bytes", v2_controller: "memory", v2_file: "memory.max" };
const DISK_WRITES: Limit = Limit {
    v1_controller: "blkio",
    v1_file: "blkio.throttle.write_iops_device",
    v2_controller: "io",
    v2_file: "io.max",
};

/// Processes with a common limit. It no longer applies to them when this value is dropped.
///
/// Fails without the permission to create cgroups, which usually only root has.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    /// Where the limit is set.
    file: PathBuf,
    is_v1: bool,
}

impl Cgroup {
    /// A limit of memory, in bytes. `name` is unique among the groups of this process.
    pub fn with_memory(name: &str, bytes: u64) -> anyhow::Result<Self> {
        let group = Self::create(name, &MEMORY)?;
        group.set(&bytes.to_string())?;
        Ok(group)
    }

    /// A limit of writes per second to the disk that has `path`.
    pub fn with_disk_writes(name: &str, path: &Path, per_second: u32) -> anyhow::Result<Self> {
        let (disk, group) = (disk_of(path)?, Self::create(name, &DISK_WRITES)?);
        let key = if group.is_v1 { "" } else { "wiops=" };
        group.set(&format!("{disk} {key}{per_second}"))?;
        Ok(group)
    }

    fn create(name: &str, limit: &Limit) -> anyhow::Result<Self> {
        let own = format!("ping-{name}-{}", std::process::id());
        let v1 = Path::new(ROOT).join(limit.v1_controller);
        let is_v1 = v1.is_dir();
        let (folder, file) = if is_v1 {
            (v1.join(own), limit.v1_file)
        } else {
            let control = Path::new(ROOT).join("cgroup.subtree_control");
            fs::write(&control, format!("+{}", limit.v2_controller)).with_context(|| needs_root(&control))?;
            (Path::new(ROOT).join(own), limit.v2_file)
        };
        fs::create_dir(&folder).with_context(|| needs_root(&folder))?;
        Ok(Self { file: folder.join(file), folder, is_v1 })
    }

    fn set(&self, value: &str) -> anyhow::Result<()> {
        fs::write(&self.file, value).with_context(|| format!("cannot write {value:?} to {}", self.file.display()))
    }

    /// Adds a process and its descendants.
    pub fn add(&self, pid: Pid) -> anyhow::Result<()> {
        for pid in pid.descendants().into_iter().chain([pid]) {
            match fs::write(self.folder.join("cgroup.procs"), pid.number().to_string()) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                added => added.with_context(|| format!("cannot limit process {}", pid.number()))?,
            }
        }
        Ok(())
    }

    /// Lowers the limit of memory to what is in use, so that the kernel kills a process that needs more.
    pub fn leave_no_memory(&self) -> anyhow::Result<()> {
        let file = if self.is_v1 { "memory.usage_in_bytes" } else { "memory.current" };
        let used = fs::read_to_string(self.folder.join(file))?;
        match fs::write(&self.file, used.trim()) {
            // It needs more already.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
            set => Ok(set?),
        }
    }

    fn release(&self) -> anyhow::Result<()> {
        let parent = self.folder.parent().context("a group has a parent")?;
        for pid in fs::read_to_string(self.folder.join("cgroup.procs"))?.lines() {
            // Fails for a process that has ended meanwhile.
            let _ = fs::write(parent.join("cgroup.procs"), pid);
        }
        let started = Instant::now();
        while let Err(error) = fs::remove_dir(&self.folder) {
            ensure!(error.kind() == io::ErrorKind::ResourceBusy && started.elapsed() < RELEASE_TIMEOUT, error);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            eprintln!("cannot remove {}: {error:#}", self.folder.display());
        }
    }
}

fn needs_root(path: &Path) -> String {
    format!("cannot change {}; limits of processes need root", path.display())
}

/// `major:minor` of the disk that has `path`, not of its partition.
fn disk_of(path: &Path) -> anyhow::Result<String> {
    let device = fs::metadata(path)?.dev();
    let number = format!("{}:{}", major(device), minor(device));
    let entry = PathBuf::from(format!("/sys/dev/block/{number}"));
    ensure!(entry.exists(), "{} is on no disk (device {number}), so its writes cannot be limited", path.display());
    if !entry.join("partition").exists() {
        return Ok(number);
    }
    let disk = fs::canonicalize(&entry)?.parent().context("a partition is in the folder of its disk")?.join("dev");
    Ok(fs::read_to_string(disk)?.trim().to_owned())
}
