//! Finds the programs and CRDs that `testbed/control-plane/install.sh` installs.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use crate::tools;

const VERSIONS: &str = include_str!("../../control-plane/versions.env");
const PROGRAMS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];
const INSTALL_HINT: &str = "run testbed/control-plane/install.sh";

/// The folder of the control plane's programs: `KUBEBUILDER_ASSETS` if that has them all, otherwise the cache.
pub(super) fn programs() -> anyhow::Result<PathBuf> {
    let given = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).filter(|folder| has_programs(folder));
    let folder = match given {
        Some(folder) => folder,
        None => cached("kubernetes", "KUBERNETES_VERSION")?,
    };
    ensure!(has_programs(&folder), "the control plane is missing in {}: {INSTALL_HINT}", folder.display());
    Ok(folder)
}

/// The folder of the CRDs that ping-operator depends on, with a subfolder per operator. Its file `SOURCES` lists their origins.
pub fn crds() -> anyhow::Result<PathBuf> {
    let folder = cached("crds", "CRDS_VERSION")?;
    ensure!(folder.join("SOURCES").is_file(), "the CRDs are missing in {}: {INSTALL_HINT}", folder.display());
    Ok(folder)
}

/// The kubectl of the control plane.
pub fn kubectl() -> anyhow::Result<PathBuf> {
    Ok(programs()?.join("kubectl"))
}

/// The helm that matches the control plane.
pub fn helm() -> anyhow::Result<PathBuf> {
    let program = cached("helm", "HELM_VERSION")?.join("helm");
    ensure!(tools::is_program(&program), "{} is missing: {INSTALL_HINT}", program.display());
    Ok(program)
}

fn has_programs(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| tools::is_program(&folder.join(program)))
}

/// The cache folder of `program` in the version that `versions.env` gives for `version`.
pub(crate) fn cached(program: &str, version: &str) -> anyhow::Result<PathBuf> {
    Ok(tools::cache_folder()?.join(format!("{program}-{}", self::version(version)?)))
}

/// The value of `name` in `versions.env`.
pub(crate) fn version(name: &str) -> anyhow::Result<&'static str> {
    let version = VERSIONS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    version.with_context(|| format!("no {name} in versions.env"))
}
