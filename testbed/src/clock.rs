//! Clocks of single processes that differ from the machine's, and can jump. A small library shows them to the process: libfaketime
//! never starts a program whose `malloc` is jemalloc's.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// How long a process may see the time from before a jump, in seconds.
pub const JUMP_SECONDS: u64 = 1;

const SOURCE: &str = include_str!("../clock/clock.c");

/// A clock for processes that are started with its environment.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// A clock that shows the machine's time.
    ///
    /// # Errors
    /// If no C compiler is installed.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("clock-").tempdir()?;
        // Postgres runs as another user.
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), readable)?;
        let clock = Self { folder };
        clock.set(0)?;
        compile(clock.folder.path(), &clock.library())?;
        Ok(clock)
    }

    /// Lets the clock jump to the machine's time plus `seconds`. Time that only measures durations does not change.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        let next = self.folder.path().join("next");
        fs::write(&next, seconds.to_string())?;
        // At once: processes read the file all the time.
        fs::rename(next, self.file())?;
        Ok(())
    }

    /// The environment that shows this clock to a process.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![("LD_PRELOAD", self.library().display().to_string()), ("CLOCK_OFFSET", self.file().display().to_string())]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("clock.so")
    }
}

fn compile(folder: &Path, library: &Path) -> anyhow::Result<()> {
    let source = folder.join("clock.c");
    fs::write(&source, SOURCE)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-shared", "-fPIC", "-o"]).args([library, &source]);
    let output = compiler.output().context("cannot run cc: install a C compiler")?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since 1970 according to a process.
    fn now(clock: &Clock) -> i64 {
        let output = Command::new("date").arg("+%s").envs(clock.env()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_process_sees_the_time_of_its_clock() {
        let clock = Clock::new().unwrap();
        let before = now(&clock);
        clock.set(-3_600).unwrap();
        let passed = now(&clock) - before + 3_600;
        assert!((0..60).contains(&passed), "{passed}");
    }
}
