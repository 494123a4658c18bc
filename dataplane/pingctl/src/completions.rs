//! `pingctl completions`

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{args::Cli, exit::Exit};

/// `pingctl completions`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingctl completions bash > ~/.local/share/bash-completion/completions/pingctl")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pingctl", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}
