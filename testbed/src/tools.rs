//! Finds and runs other programs.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use tokio::process::Command;

/// How to fix a missing program or file; part of every such error.
pub(crate) const INSTALL_HINT: &str = "run testbed/install.sh parts";

/// The program of this name on PATH.
pub(crate) fn on_path(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file));
    found.with_context(|| format!("{name} is missing: {INSTALL_HINT}"))
}

pub(crate) fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The folder for downloaded and generated files, each with its version in its name.
pub(crate) fn cache_folder() -> anyhow::Result<PathBuf> {
    // The XDG specification requires relative paths to be ignored.
    let given = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = match given {
        Some(path) => path,
        None => home()?.join(".cache"),
    };
    Ok(cache.join("pingpipeline"))
}

/// The folder for the records and the data of detached processes.
pub(crate) fn state_folder() -> anyhow::Result<PathBuf> {
    let given = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = match given {
        Some(path) => path,
        None => home()?.join(".local/state"),
    };
    Ok(state.join("pingpipeline"))
}

pub(crate) fn home() -> anyhow::Result<PathBuf> {
    env::home_dir().context("HOME is not set")
}

/// Runs a command and returns its output. An error contains everything it printed.
pub(crate) async fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("cannot run {name}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{name}: {}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}
