//! Options that every command accepts.

use std::time::Duration;

use clap::Args;

use crate::{address::Address, output::Format, time};

/// Timeout of one call, unless `--timeout` or the command sets another.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options that every command accepts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Address of the server: http://host:port, or host:port.
    #[arg(short, long, env = ping_runtime::env::CTL_ADDR, default_value = "http://localhost:8080", global = true)]
    pub(crate) addr: Address,
    /// Output format: text, or json.
    #[arg(short, long, value_enum, default_value = "text", global = true)]
    output: Format,
    /// Same as --output json.
    #[arg(long, global = true)]
    json: bool,
    /// Timeout of one call, e.g. 500ms or 1m. Default: 10s; 5m for `verify`, which reads every row.
    #[arg(long, value_parser = time::parse_duration, global = true)]
    timeout: Option<Duration>,
    /// How often to retry when the server is unavailable or the outcome is unknown. A retried event keeps its id, so it is
    /// never counted twice.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=100), global = true)]
    pub(crate) retries: u32,
}

impl GlobalArgs {
    /// Output format.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    /// Timeout of one call.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout_or(DEFAULT_TIMEOUT)
    }

    /// Timeout of one call, for a command with a default of its own.
    pub(crate) fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }
}
