//! `pingctl`, the command-line client: sends events, queries counts, load-tests a server and verifies its numbers.
//!
//! Files import in one direction: `main` → `args` → commands → `client` → `global` → `failure` → `output` → `address`, `exit`,
//! `time`.
//! Everything that is known about the server comes from the generated types of `ping-proto`.

mod address;
mod args;
mod client;
mod completions;
mod count;
mod exit;
mod failure;
mod global;
mod load;
mod output;
mod ping;
mod series;
mod source;
mod status;
mod time;
mod top;
mod verify;
mod watch;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use exit::Exit;
use output::Format;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::report_usage(&error, Format::guess(std::env::args_os())),
    };
    let format = cli.global.format();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&error, format),
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { command, global } = cli;
    let runtime = match command.threads() {
        1 => Builder::new_current_thread().enable_all().build()?,
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    };
    runtime.block_on(async {
        match command {
            Command::Ping(args) => ping::run(args, &global).await,
            Command::Count(args) => count::run(args, &global).await,
            Command::Watch(args) => watch::run(args, &global).await,
            Command::Load(args) => load::run(&args, &global).await,
            Command::Source(args) => source::run(args, &global).await,
            Command::Status(args) => status::run(args, &global).await,
            Command::Top(args) => top::run(args, &global).await,
            Command::Series(args) => series::run(args, &global).await,
            Command::Verify(args) => verify::run(args, &global).await,
            Command::Completions(args) => completions::run(&args, &mut Cli::command()),
        }
    })
}
