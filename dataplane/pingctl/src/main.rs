//! `pingctl`, the command-line client: sends events, queries counts, load-tests a server and verifies its numbers.
//!
//! Files import in one direction: `main` → `args` → commands → `client` → `settings` → `global` → `config` → `connection` → `failure` →
//! `output` → `address`, `exit`, `time`.
//! Everything that is known about the server comes from the generated types of `ping-proto`.

mod address;
mod args;
mod client;
mod completions;
mod config;
mod connection;
mod context;
mod count;
mod dead_letters;
mod doctor;
mod exit;
mod failure;
mod global;
mod load;
mod login;
mod man;
mod output;
mod ping;
mod private;
mod revoke;
mod series;
mod settings;
mod source;
mod status;
mod time;
mod token_command;
mod top;
mod verify;
mod watch;

use std::process::ExitCode;

use args::{Cli, Command, ServerCommand};
use clap::{CommandFactory, Parser};
use exit::Exit;
use failure::Failure;
use output::Format;
use settings::Settings;
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
    if global.format() == Format::Name && !command.has_names() {
        let fix = "use -o text, -o json or -o yaml; ping, source, status, top, series and context have names";
        return Err(Failure::usage("this command has no names to print", fix).into());
    }
    let runtime = match command.threads() {
        1 => Builder::new_current_thread().enable_all().build()?,
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    };
    runtime.block_on(async {
        match command {
            Command::Call(command) => call(command, &Settings::new(&global).await?).await,
            Command::Login(args) => login::login(args, &global).await,
            Command::Logout(args) => login::logout(args, &global),
            Command::Context(args) => context::run(args, &global),
            Command::Doctor(args) => doctor::run(&args, &global).await,
            Command::Completions(args) => completions::run(&args, &mut Cli::command()),
            Command::Man(args) => man::run(&args, Cli::command()),
        }
    })
}

async fn call(command: ServerCommand, settings: &Settings) -> anyhow::Result<Exit> {
    match command {
        ServerCommand::Ping(args) => ping::run(args, settings).await,
        ServerCommand::Count(args) => count::run(args, settings).await,
        ServerCommand::Watch(args) => watch::run(args, settings).await,
        ServerCommand::Load(args) => load::run(&args, settings).await,
        ServerCommand::Source(args) => source::run(args, settings).await,
        ServerCommand::Status(args) => status::run(args, settings).await,
        ServerCommand::Top(args) => top::run(args, settings).await,
        ServerCommand::Series(args) => series::run(args, settings).await,
        ServerCommand::Verify(args) => verify::run(args, settings).await,
        ServerCommand::Revoke(args) => revoke::run(args, settings).await,
        ServerCommand::DeadLetters(args) => dead_letters::run(args, settings).await,
    }
}
