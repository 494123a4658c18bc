//! A small file system in memory for the data of a part. It fills up, and it can grow.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::process::Command;

use crate::tools;

/// The mounted file system. [`crate::folder::Folder`] unmounts it.
#[derive(Debug)]
pub(crate) struct Volume(PathBuf);

impl Volume {
    /// Moves the folder `target` to a new file system of `mebibytes` that belongs to `user`. `aside` is a free path next to it.
    pub(crate) async fn mount(target: &Path, aside: &Path, mebibytes: u32, user: Option<&str>) -> anyhow::Result<Self> {
        fs::rename(target, aside)?;
        fs::create_dir(target)?;
        let options = format!("size={mebibytes}m,mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(target);
        tools::run(&mut mount).await.context(
            "a test with a full disk mounts a small file system: run it as root, outside of restricted containers",
        )?;
        tools::run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(target)).await?;
        if let Some(user) = user {
            tools::run(Command::new("chown").arg(format!("{user}:")).arg(target)).await?;
        }
        fs::remove_dir_all(aside)?;
        Ok(Self(target.to_owned()))
    }

    /// Occupies all but `left` bytes.
    pub(crate) fn fill(&self, left: u64) -> anyhow::Result<()> {
        let disk = rustix::fs::statvfs(&self.0)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let mut file = File::create(self.0.join("filler"))?;
        match io::copy(&mut io::Read::take(io::repeat(0), free.saturating_sub(left)), &mut file) {
            // Its owner has written meanwhile.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            filled => Ok(filled.map(drop)?),
        }
    }

    /// Makes it as large as this.
    pub(crate) async fn grow(&self, mebibytes: u32) -> anyhow::Result<()> {
        let options = format!("remount,size={mebibytes}m");
        tools::run(Command::new("mount").args(["-o", &options]).arg(&self.0)).await.map(drop)
    }
}
