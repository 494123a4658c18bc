//! SHA-256 sums of files.

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};

/// The SHA-256 sum of a file, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn sha256(file: &Path) -> anyhow::Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("cannot run sha256sum")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let line = String::from_utf8(output.stdout)?;
    // The name of a file with special characters, and then the whole line, is escaped with a backslash.
    Ok(line.trim_start_matches('\\').chars().take(64).collect())
}
