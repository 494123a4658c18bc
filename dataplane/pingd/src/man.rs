//! `pingd man`

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{Args, Command};

/// Arguments of `pingd man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder, which is created if it is missing
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// Writes a page for `pingd` and one for each of its programs into the folder.
pub(crate) fn write(args: &ManArgs, pingd: Command) -> anyhow::Result<()> {
    let folder = &args.folder;
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(pingd, folder));
    written.with_context(|| format!("cannot write the pages into {}", folder.display()))
}
