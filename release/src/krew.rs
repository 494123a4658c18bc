//! The manifest with which krew, the package manager of kubectl plugins, finds ours.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};

use crate::checksums::sha256;

/// Arguments of `release krew`.
#[derive(Debug, Args)]
pub(crate) struct KrewArgs {
    /// Version of the release, such as 0.1.0.
    #[arg(long)]
    version: String,
    /// URL of the folder from which the archives can be downloaded.
    #[arg(long)]
    url: String,
    /// Folder with the archives of the plugin.
    archives: PathBuf,
}

/// Architectures, as in the names of archives and as krew calls them.
const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// The manifest, with a platform for each archive.
///
/// # Errors
/// If there is no archive.
pub(crate) fn manifest(args: &KrewArgs) -> anyhow::Result<Value> {
    let KrewArgs { version, url, archives } = args;
    let mut platforms = Vec::new();
    for (architecture, name) in ARCHITECTURES {
        let folder = format!("kubectl-pingpipeline-{version}-linux-{architecture}");
        let archive = archives.join(format!("{folder}.tar.gz"));
        if archive.exists() {
            platforms.push(json!({
                "selector": {"matchLabels": {"os": "linux", "arch": name}},
                "uri": format!("{url}/{folder}.tar.gz"),
                "sha256": sha256(&archive)?,
                "files": [
                    {"from": format!("{folder}/kubectl-pingpipeline"), "to": "."},
                    {"from": format!("{folder}/LICENSE"), "to": "."},
                ],
                "bin": "kubectl-pingpipeline",
            }));
        }
    }
    ensure!(!platforms.is_empty(), "{} has no archive of kubectl-pingpipeline {version}", archives.display());
    Ok(json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "pingpipeline"},
        "spec": {
            "version": format!("v{version}"),
            "homepage": "https://pingpipeline.io",
            "shortDescription": "Inspect, connect to and test PingPipelines",
            "description": "Shows the status of PingPipelines and how to connect to them, explains conditions, previews \
                            changes, collects support reports and runs drills.\n",
            "platforms": platforms,
        },
    }))
}
