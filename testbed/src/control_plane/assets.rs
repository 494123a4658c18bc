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

/// The helm that fits the control plane.
pub fn helm() -> anyhow::Result<PathBuf> {
    let program = cached("helm", "HELM_VERSION")?.join("helm");
    ensure!(tools::is_program(&program), "no {}: {REMEDY}", program.display());
    Ok(program)
}

fn holds_programs(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| tools::is_program(&folder.join(program)))
}

fn cached(what: &str, version: &str) -> anyhow::Result<PathBuf> {
    let version = VERSIONS.lines().find_map(|line| line.strip_prefix(version)?.strip_prefix('='));
    let version = version.with_context(|| format!("no version of {what} in versions.env"))?;
    Ok(tools::cache_folder()?.join(format!("{what}-{version}")))
}
