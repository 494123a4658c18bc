//! `kubectl pingpipeline dead-letters`

mod find;
mod list;
mod resend;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use self::{find::FilterArguments, resend::ResendArguments};
use crate::{cluster::ConnectionArgs, output::Format};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Name of the pipeline. Write `-- resend` for one that is called `resend`.
    #[arg(required = true)]
    name: Option<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Most dead letters to show.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Subcommand)]
enum Action {
    /// Record the events of dead letters again, with their ids: each counts once, however often it is sent.
    Resend(ResendArguments),
}

/// Lists dead letters, or records their events again.
pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let Arguments { action, name, filter, limit } = arguments;
    if let Some(Action::Resend(arguments)) = action {
        return resend::run(arguments, connection, format).await;
    }
    let name = name.as_deref().context("name a pipeline")?;
    list::run(name, filter, *limit, connection, format).await
}
