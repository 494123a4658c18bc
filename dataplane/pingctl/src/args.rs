//! The command line of `pingctl`.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::count;
use crate::{client::Address, completions, exit, load::LoadArgs, output::Format, ping, sources, watch, when};

/// Longest time a call may take, unless `--timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends pings, asks for counts, loads a server and proves its numbers.
#[derive(Debug, Parser)]
#[command(name = "pingctl", version, max_term_width = 110, after_help = exit::help())]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sends a ping; when it returns with 0, the ping is durable and counted once, whatever happens.
    Ping(ping::PingArgs),
    /// Says how many pings were acknowledged, and how good that answer is.
    Count(count::CountArgs),
    /// Shows count, rate and lag, live; ends with Ctrl-C.
    Watch(watch::WatchArgs),
    /// Sends many pings at a fixed rate, or as fast as they are taken, and says how long they took.
    Load(LoadArgs),
    /// Says what is known of one source: how often, since when, what.
    Source(sources::SourceArgs),
    /// Says what a source is by the server's rule.
    Status(sources::SourceArgs),
    /// Shows the sources with the most events.
    Top(sources::TopArgs),
    /// Shows counts over time, of everything or of one source.
    Series(sources::SeriesArgs),
    /// Recounts the store row by row, compares totals and cache with it, and prints the proof; 0 when exact, 1 when not.
    Verify,
    /// Prints a completion script for a shell.
    Completions(completions::CompletionsArgs),
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The server: http://host:port, or host:port.
    #[arg(short, long, env = ping_runtime::env::CTL_ADDR, default_value = "http://localhost:8080", global = true)]
    pub(crate) addr: Address,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text", global = true)]
    output: Format,
    /// Same as --output json.
    #[arg(long, global = true)]
    json: bool,
    /// Longest time one call may take, e.g. 500ms or 1m. Default: 10s; for `verify`, which reads every row, 5m.
    #[arg(long, value_parser = when::duration, global = true)]
    timeout: Option<Duration>,
    /// How often to try again when the server is away or the outcome is unknown. A ping keeps its id, so it is never counted
    /// twice.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=100), global = true)]
    pub(crate) retries: u32,
}

impl Command {
    /// Threads to start.
    pub(crate) fn threads(&self) -> usize {
        match self {
            Self::Load(args) => args.threads(),
            _ => 1,
        }
    }
}

impl Global {
    /// How to print.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    /// Longest time one call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout_or(TIMEOUT)
    }

    /// The same for a command that needs more by default.
    pub(crate) fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
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
