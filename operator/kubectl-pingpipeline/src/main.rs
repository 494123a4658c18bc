//! `kubectl pingpipeline`: shows the status of pipelines and how to connect, explains conditions, previews changes, makes backups, plans restores,
//! lists dead letters, collects support reports and runs drills. kubectl finds the plugin by its name on the `PATH`. Only `backup`,
//! `dead-letters resend` and `drill` change anything.
//!
//! It depends on `ping-api` and not on the controller.

mod backup;
mod caller;
mod cluster;
mod connect;
mod dead_letters;
mod drill;
mod explain;
mod forward;
mod output;
mod plan;
mod recount;
mod redact;
mod report;
mod restore_plan;
mod risk;
mod status;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::{cluster::ConnectionArgs, output::Format};

/// Inspect PingPipelines, preview changes, make backups and run drills. Only `backup`, `dead-letters resend` and `drill` change anything.
#[derive(Parser)]
#[command(name = "kubectl pingpipeline", bin_name = "kubectl pingpipeline", version)]
struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Output format.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show count, components, conditions and recent events. Exit code 1 unless all pipelines are ready.
    Status(status::Arguments),
    /// Print how to connect to a pipeline: its address, CA and token, and commands that are ready to run.
    Connect(connect::Arguments),
    /// Recount every row on a server and compare totals, minutes and cache. Exit code 1 if they differ.
    Verify(verify::Arguments),
    /// List the records that are counted nowhere, with the reason, or record their events again.
    DeadLetters(dead_letters::Arguments),
    /// Explain a condition or reason, and what to do about it.
    Explain(explain::Arguments),
    /// Show what applying a manifest would change, and the risk of each change. Exit code 1 if it would be rejected.
    Plan(plan::Arguments),
    /// Make a base backup of a pipeline's Postgres now, and wait until it has ended.
    Backup(backup::Arguments),
    /// Print the manifest of a pipeline that starts from the backups of another one. Exit code 1 if it could not be restored.
    RestorePlan(restore_plan::Arguments),
    /// Collect everything that support needs, without passwords, as YAML.
    Report(report::Arguments),
    /// Cause failures in a running pipeline under load, and check that every acknowledged event is counted exactly once.
    Drill(drill::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Cli { connection, output, command } = Cli::parse();
    let done = match command {
        Command::Explain(arguments) => explain::run(&arguments, &connection, output).await,
        Command::Status(arguments) => status::run(&arguments, &connection, output).await,
        Command::Connect(arguments) => connect::run(&arguments, &connection, output).await,
        Command::Verify(arguments) => verify::run(&arguments, &connection, output).await,
        Command::DeadLetters(arguments) => dead_letters::run(&arguments, &connection, output).await,
        Command::Plan(arguments) => plan::run(&arguments, &connection, output).await,
        Command::Backup(arguments) => backup::run(&arguments, &connection, output).await,
        Command::RestorePlan(arguments) => restore_plan::run(&arguments, &connection, output).await,
        Command::Report(arguments) => report::run(&arguments, &connection, output).await,
        Command::Drill(arguments) => drill::run(&arguments, &connection, output).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
