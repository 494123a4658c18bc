//! A small file system for the data of a Postgres, in memory. It fills up, and it can grow.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::process::Command;

use super::user;
use crate::tools;

/// What is on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeContent {
    /// Everything.
    All,
    /// Everything but the write-ahead log.
    Data,
    /// The write-ahead log only.
    Wal,
}

impl VolumeContent {
    /// The folder below the folder of the instance.
    fn folder(self) -> &'static str {
        match self {
            Self::All | Self::Data => "data",
            Self::Wal => "data/pg_wal",
        }
    }
}

/// The mounted file system. [`crate::folder::Folder`] unmounts it.
#[derive(Debug)]
pub(super) struct Volume(PathBuf);

impl Volume {
    /// Moves what belongs on the volume to a new one of `mebibytes`. `instance` is the folder with the folder `data`.
    pub(super) async fn mount(instance: &Path, content: VolumeContent, mebibytes: u32) -> anyhow::Result<Self> {
        let target = instance.join(content.folder());
        let aside = instance.join("aside");
        fs::rename(&target, &aside)?;
        fs::create_dir(&target)?;
        let options = format!("size={mebibytes}m,mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&target);
        tools::run(&mut mount).await.context(
            "a test with a full disk mounts a small file system: run it as root, outside of restricted containers",
        )?;
        tools::run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&target)).await?;
        if let Some(user) = user() {
            tools::run(Command::new("chown").arg(format!("{user}:")).arg(&target)).await?;
        }
        fs::remove_dir_all(&aside)?;
        if content == VolumeContent::Data {
            // Postgres follows a link, as it does if `initdb` is told where the log is.
            let (log, elsewhere) = (target.join("pg_wal"), instance.join("pg_wal"));
            tools::run(Command::new("mv").arg(&log).arg(&elsewhere)).await?;
            symlink(&elsewhere, &log)?;
        }
        Ok(Self(target))
    }

    /// Occupies all but `left` bytes.
    pub(super) fn fill(&self, left: u64) -> anyhow::Result<()> {
        let disk = rustix::fs::statvfs(&self.0)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let mut file = File::create(self.0.join("filler"))?;
        io::copy(&mut io::Read::take(io::repeat(0), free.saturating_sub(left)), &mut file)?;
        Ok(())
    }

    /// Makes it as large as this.
    pub(super) async fn grow(&self, mebibytes: u32) -> anyhow::Result<()> {
        let options = format!("remount,size={mebibytes}m");
        tools::run(Command::new("mount").args(["-o", &options]).arg(&self.0)).await.map(drop)
    }
}
