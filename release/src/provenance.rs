//! How the files of a release were built: an in-toto statement with the SLSA predicate. Its signer vouches for it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::checksums::sha256;

/// Arguments of `release provenance`.
#[derive(Debug, Args)]
pub(crate) struct ProvenanceArgs {
    /// Version of the release.
    #[arg(long)]
    version: String,
    /// Commit from which it was built.
    #[arg(long)]
    commit: String,
    /// Time of the start of the build, in RFC 3339.
    #[arg(long)]
    started: String,
    /// Architecture that was built; can be repeated.
    #[arg(long, required = true)]
    architecture: Vec<String>,
    /// Identity of the builder, as a URI.
    #[arg(long)]
    builder: String,
    /// Folder of the release.
    folder: PathBuf,
}

/// The statement about every file of the folder.
///
/// # Errors
/// If a file cannot be read, or the folder is empty.
pub(crate) fn statement(args: &ProvenanceArgs) -> anyhow::Result<Value> {
    let mut names = Vec::new();
    for entry in fs::read_dir(&args.folder).with_context(|| format!("cannot read {}", args.folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "{} is empty", args.folder.display());
    let mut subjects = Vec::new();
    for name in names {
        subjects.push(json!({"name": name, "digest": {"sha256": sha256(&args.folder.join(&name))?}}));
    }
    let lock = sha256(&PathBuf::from("Cargo.lock"))?;
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://pingpipeline.io/docs/how-to/release.html#provenance",
                "externalParameters": {"version": args.version, "architectures": args.architecture},
                "internalParameters": {"rustc": rustc()?},
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": args.commit}},
                    {"name": "Cargo.lock", "digest": {"sha256": lock}},
                ],
            },
            "runDetails": {
                "builder": {"id": args.builder},
                "metadata": {"startedOn": args.started},
            },
        },
    }))
}

fn rustc() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("cannot run rustc")?;
    ensure!(output.status.success(), "rustc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
