//! `pingctl dead-letters`

mod find;
mod list;
mod resend;

use clap::{Args, Subcommand};

use crate::{exit::Exit, settings::Settings};
use find::FilterArgs;
use resend::ResendArgs;

/// Arguments of `pingctl dead-letters`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Dead letters are records of Kafka that are counted nowhere. They are listed oldest first. The server must accept events (--role ingest or
all), and the caller needs the permission `admin` for all sources and kinds.

Examples:
  pingctl dead-letters --admin-addr https://localhost:8081
  pingctl dead-letters --since 1h --reason restored -o json
  pingctl dead-letters resend --place pings/0/42
  pingctl dead-letters resend --since 1h --reason restored --yes"
)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Most dead letters to show.
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Record the events of dead letters again, with their ids: each counts once, however often it is sent.
    Resend(ResendArgs),
}

/// Lists dead letters, or records their events again.
pub(crate) async fn run(args: DeadLettersArgs, settings: &Settings) -> anyhow::Result<Exit> {
    match args.action {
        None => list::run(&args.filter, args.limit, settings).await,
        Some(Action::Resend(args)) => resend::run(args, settings).await,
    }
}
