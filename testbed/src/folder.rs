//! Temporary data folders that are removed together with their owner.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;

use crate::pid::Pid;

const PREFIX: &str = "ping-testbed";

/// A temporary folder, removed when dropped.
///
/// A killed test cannot remove its folders. Therefore a folder's name identifies the process that created it, and creating a
/// folder removes the folders of processes that no longer run.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    pub(crate) fn create(part: &str) -> anyhow::Result<Self> {
        remove_abandoned(&std::env::temp_dir());
        let owner = Pid::own().context("cannot read /proc")?;
        Self::named(&format!("{PREFIX}-{}-{}-{part}-", owner.number(), owner.started()))
    }

    /// A folder that may outlive this process. Its name identifies no owner.
    pub(crate) fn create_detached(part: &str) -> anyhow::Result<Self> {
        Self::named(&format!("{PREFIX}-detached-{part}-"))
    }

    fn named(prefix: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir();
        let folder = folder.with_context(|| format!("cannot create a folder in {}", std::env::temp_dir().display()))?;
        Ok(Self { path: folder.keep(), kept: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the folder when this value is dropped.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.path);
        }
    }
}

/// In the background, because removing the files of a Postgres that has synced takes up to 3 s. `rm` runs detached so that it
/// survives this process. If it fails, the folder is removed later as an abandoned one. Volumes of a Postgres are unmounted first.
fn remove(folder: &Path) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "{ umount -l -- \"$0/data/pg_wal\" \"$0/data\"; rm -rf -- \"$0\"; } &"])
        .arg(folder)
        .process_group(0);
    let _ = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let owner = entry.file_name().to_str().and_then(owner);
        if owner.is_some_and(|owner| !owner.is_running()) {
            remove(&entry.path());
        }
    }
}

fn owner(folder: &str) -> Option<Pid> {
    let mut words = folder.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-');
    Some(Pid::from_parts(words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn only_folders_of_dead_owners_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let own = Pid::own().unwrap();
        let name = |started: u64| format!("{PREFIX}-{}-{started}-redis-abc", own.number());
        let folders = [name(own.started()), name(own.started() + 1), format!("{PREFIX}-detached-redis-abc")];
        for folder in &folders {
            fs::create_dir(parent.path().join(folder)).unwrap();
        }
        remove_abandoned(parent.path());
        let exists = || folders.each_ref().map(|folder| parent.path().join(folder).exists());
        let deadline = Instant::now() + Duration::from_secs(20);
        while exists() != [true, false, true] {
            assert!(Instant::now() < deadline, "{:?}", exists());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
