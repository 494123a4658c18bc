//! `kubectl pingpipeline`: a pipeline on one screen, what a condition means, what a change would do, a report to pass on, and
//! drills. kubectl finds it by its name on the PATH. Only a drill changes anything.

mod cluster;
mod drill;
mod explain;
mod output;
mod plan;
mod redact;
mod report;
mod risk;
mod status;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::{cluster::ConnectionArgs, output::Format};

/// Looks at PingPipelines, and answers before anything is changed. Only `drill` changes anything itself.
#[derive(Parser)]
#[command(name = "kubectl pingpipeline", bin_name = "kubectl pingpipeline", version)]
struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// For people, or one JSON object for programs.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A pipeline on one screen: its figures, components, conditions and latest events. Exit code 1 unless all are ready.
    Status(status::Arguments),
    /// Have a server recount every row, and compare totals, minutes and cache. Exit code 1 when they differ.
    Verify(verify::Arguments),
    /// What a condition or a reason means, and what to do about it.
    Explain(explain::Arguments),
    /// What applying a manifest would change, and the risk of each change. Exit code 1 when it would be refused.
    Plan(plan::Arguments),
    /// All that support needs to know, without passwords, as YAML.
    Report(report::Arguments),
    /// Break parts of a running pipeline under load, and tell whether every acknowledged ping was counted once.
    Drill(drill::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Cli { connection, output, command } = Cli::parse();
    let done = match command {
        Command::Explain(arguments) => explain::run(&arguments, &connection, output).await,
        Command::Status(arguments) => status::run(&arguments, &connection, output).await,
        Command::Verify(arguments) => verify::run(&arguments, &connection, output).await,
        Command::Plan(arguments) => plan::run(&arguments, &connection, output).await,
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
