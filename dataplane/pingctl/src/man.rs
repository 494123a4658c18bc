//! `pingctl man`

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::Args;

use crate::exit::Exit;

/// Arguments of `pingctl man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl man | man -l -
  pingctl man --folder ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write the pages of all commands into this folder, which is created if it is missing.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints the page of `command`, or writes the pages of all its commands.
pub(crate) fn run(args: &ManArgs, command: clap::Command) -> anyhow::Result<Exit> {
    match &args.folder {
        Some(folder) => {
            let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
            written.with_context(|| format!("cannot write the pages into {}", folder.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            io::stdout().lock().write_all(&page)?;
        }
    }
    Ok(Exit::Success)
}
