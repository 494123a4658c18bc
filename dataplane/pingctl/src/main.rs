//! `pingctl`: sends pings, asks for counts, loads a server and proves its numbers.

mod args;
mod client;
mod completions;
mod count;
mod exit;
mod failure;
mod load;
mod output;
mod ping;
mod sources;
mod verify;
mod watch;
mod when;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use exit::Exit;
use output::Format;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error, Format::guess(std::env::args_os())),
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
            Command::Source(args) => sources::source(args, &global).await,
            Command::Status(args) => sources::status(args, &global).await,
            Command::Top(args) => sources::top(args, &global).await,
            Command::Series(args) => sources::series(args, &global).await,
            Command::Verify => verify::run(&global).await,
            Command::Completions(args) => completions::run(&args),
        }
    })
}
