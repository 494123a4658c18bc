//! `pingctl completions`

use std::io::{self, Write};

use clap::Args;
use clap_complete::Shell;

use crate::exit::Exit;

/// Arguments of `pingctl completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingctl completions bash > ~/.local/share/bash-completion/completions/pingctl")]
pub(crate) struct CompletionsArgs {
    /// Shell to print the script for.
    shell: Shell,
}

/// Prints the completion script of `command`.
pub(crate) fn run(args: &CompletionsArgs, command: &mut clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "pingctl", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Success)
}
