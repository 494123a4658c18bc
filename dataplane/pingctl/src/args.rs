//! The command line: the commands and their options.

use clap::{Parser, Subcommand};

use crate::{
    completions::CompletionsArgs,
    context::ContextArgs,
    count::CountArgs,
    dead_letters::DeadLettersArgs,
    doctor::DoctorArgs,
    exit,
    global::GlobalArgs,
    load::LoadArgs,
    login::{LoginArgs, LogoutArgs},
    man::ManArgs,
    ping::PingArgs,
    revoke::RevokeArgs,
    series::SeriesArgs,
    source::SourceArgs,
    status::StatusArgs,
    top::TopArgs,
    verify::VerifyArgs,
    watch::WatchArgs,
};

/// Command-line client: send events, query counts, load-test and verify.
#[derive(Debug, Parser)]
#[command(name = "pingctl", version, max_term_width = 110, after_help = exit::help())]
pub(crate) struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options that every command accepts.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Commands that call a server.
    #[command(flatten)]
    Call(ServerCommand),
    /// Check and store the credentials for a server, in a context that becomes the current one.
    Login(LoginArgs),
    /// Delete the token that `login` stored.
    Logout(LogoutArgs),
    /// Show or change the contexts: named servers, with credentials.
    #[command(visible_alias = "config")]
    Context(ContextArgs),
    /// Find out, step by step, why a server cannot be used.
    Doctor(DoctorArgs),
    /// Print a shell completion script.
    Completions(CompletionsArgs),
    /// Print the manual page, or write the pages of all commands.
    Man(ManArgs),
}

/// Commands that call a server.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Send an event; exit code 0 means the event is durable.
    Ping(PingArgs),
    /// Show the number of acknowledged events and its freshness.
    Count(CountArgs),
    /// Show count, rate and lag live, until Ctrl-C.
    Watch(WatchArgs),
    /// Send events at a fixed rate or as fast as possible, and report latency.
    Load(LoadArgs),
    /// Show statistics for one source.
    Source(SourceArgs),
    /// Show a source's status.
    Status(StatusArgs),
    /// Show the sources with the most events.
    Top(TopArgs),
    /// Show counts over time, for all events or for one source.
    Series(SeriesArgs),
    /// Recount every row and compare with the cache (slow); exit 1 if they differ.
    Verify(VerifyArgs),
    /// Take back the negative status of a source.
    Revoke(RevokeArgs),
    /// List the records that are counted nowhere, with the reason, or record their events again.
    DeadLetters(DeadLettersArgs),
}

impl Command {
    /// Number of threads the command needs.
    pub(crate) fn threads(&self) -> usize {
        match self {
            Self::Call(ServerCommand::Load(args)) => args.threads(),
            _ => 1,
        }
    }

    /// Whether `-o name` has something to print.
    pub(crate) fn has_names(&self) -> bool {
        use ServerCommand::{Ping, Series, Source, Status, Top};
        matches!(self, Self::Context(_) | Self::Call(Ping(_) | Source(_) | Status(_) | Top(_) | Series(_)))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
