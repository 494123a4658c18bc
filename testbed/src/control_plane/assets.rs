//! Where `testbed/control-plane/install.sh` puts programs and CRDs.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use crate::tools;

const VERSIONS: &str = include_str!("../../control-plane/versions.env");
const PROGRAMS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];
const REMEDY: &str = "run testbed/control-plane/install.sh";

/// The folder that holds the control plane's programs: `KUBEBUILDER_ASSETS` if it has them all.
pub(super) fn programs() -> anyhow::Result<PathBuf> {
    let given = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).filter(|folder| holds_programs(folder));
    let folder = match given {
        Some(folder) => folder,
        None => cached("kubernetes", "KUBERNETES_VERSION")?,
    };
    ensure!(holds_programs(&folder), "no control plane in {}: {REMEDY}", folder.display());
    Ok(folder)
}

/// The folder of the CRDs that we build on, a sub-folder per operator. Its file `SOURCES` tells where each came from.
pub fn crds() -> anyhow::Result<PathBuf> {
    let folder = cached("crds", "CRDS_VERSION")?;
    ensure!(folder.join("SOURCES").is_file(), "no CRDs in {}: {REMEDY}", folder.display());
    Ok(folder)
}

/// The kubectl of the control plane.
pub fn kubectl() -> anyhow::Result<PathBuf> {
    Ok(programs()?.join("kubectl"))
}

/// The helm that fits the control plane.
pub fn helm() -> anyhow::Result<PathBuf> {
    let program = cached("helm", "HELM_VERSION")?.join("helm");
    ensure!(tools::is_program(&program), "no {}: {REMEDY}", program.display());
    Ok(program)
}

fn holds_programs(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| tools::is_program(&folder.join(program)))
}

/// The folder of `what`, at the version that versions.env gives.
pub(crate) fn cached(what: &str, version: &str) -> anyhow::Result<PathBuf> {
    Ok(tools::cache_folder()?.join(format!("{what}-{}", self::version(version)?)))
}

/// What versions.env gives for `name`.
pub(crate) fn version(name: &str) -> anyhow::Result<&'static str> {
    let version = VERSIONS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    version.with_context(|| format!("no {name} in versions.env"))
}
