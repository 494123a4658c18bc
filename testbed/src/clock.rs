//! Clocks of single processes that differ from the machine's, and can jump. Debian's libfaketime shows them to the process.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::tools::INSTALL_HINT;

/// How long a process may see the time from before a jump, in seconds.
pub const JUMP_SECONDS: u64 = 1;

/// A clock for processes that are started with its environment.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    /// A clock that shows the machine's time.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("clock-").tempdir()?;
        // Postgres runs as another user.
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), readable)?;
        let clock = Self { library: library()?, folder };
        clock.set(0)?;
        Ok(clock)
    }

    /// Lets the clock jump to the machine's time plus `seconds`. Time that only measures durations does not change.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        let next = self.folder.path().join("next");
        fs::write(&next, format!("{seconds:+}s\n"))?;
        // At once: processes read the file all the time.
        fs::rename(next, self.file())?;
        Ok(())
    }

    /// The environment that shows this clock to a process.
    #[must_use]
    pub fn env(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_CACHE_DURATION", JUMP_SECONDS.to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

/// The variant for programs with threads.
fn library() -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).with_context(|| format!("libfaketime is missing: {INSTALL_HINT}"))
}
