//! Logs to standard error, one line per event: text for terminals, JSON for log collectors.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text if standard error is a terminal, otherwise JSON.
    #[default]
    Auto,
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("unknown log format \"{other}\"; use auto, text or json")),
        }
    }
}

/// Installs the process-wide log subscriber. `filter` has the syntax of `EnvFilter`, e.g. `info,rdkafka=warn`.
///
/// # Errors
/// If `filter` is invalid or a subscriber is already installed.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let installed = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    installed.map_err(|error| anyhow::anyhow!("cannot install the log subscriber: {error}"))
}
