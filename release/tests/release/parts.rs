//! A release of the programs of this build, and what every check needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(crate) const ARCHITECTURE: &str = std::env::consts::ARCH;
/// The architecture, as Debian and registries call it.
pub(crate) const PLATFORM: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Runs a command; returns its output. It must succeed.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

/// The command that packs the programs of this build into `to`.
pub(crate) fn build(version: &str, architecture: &str, to: &Path) -> Command {
    let mut command = Command::new(root().join("release/build.sh"));
    let binaries = Path::new(env!("CARGO_BIN_EXE_release")).parent().unwrap();
    command.arg(version).envs([("BINARIES", binaries), ("TO", to)]);
    // Compressed well enough for a test.
    command.envs([("ARCHS", architecture), ("LEVEL", "1"), ("URL", "https://example.test/releases")]);
    command
}

/// A release in a temporary folder.
pub(crate) struct Release {
    folder: TempDir,
}

impl Release {
    pub(crate) fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        output(&mut build(VERSION, ARCHITECTURE, folder.path()));
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder().join(file)
    }

    /// A command in the folder of the release.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder());
        command
    }

    /// Unpacks an archive into a new folder.
    pub(crate) fn unpacked(&self, file: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        output(self.command("tar").arg("-xf").arg(file).arg("-C").arg(folder.path()));
        folder
    }

    pub(crate) fn json(&self, file: &str) -> Value {
        json(&self.path(file))
    }

    pub(crate) fn sha256(&self, file: &str) -> String {
        sha256(&self.path(file))
    }
}

pub(crate) fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub(crate) fn yaml(text: &str) -> Value {
    yaml_serde::from_str(text).unwrap()
}

/// The objects of a stream of YAML documents.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").map(yaml);
    documents.filter(|object| !object.is_null()).collect()
}

pub(crate) fn sha256(file: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &fs::read(file).unwrap());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
