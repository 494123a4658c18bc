//! Logs to standard error, one line per event: text for terminals, JSON for log collectors.

use std::io::IsTerminal;

use anyhow::Context;

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

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

/// Installs the process-wide log subscriber. `filter` lists levels, one for everything and one per module, separated by commas:
/// `info,rdkafka=warn`.
///
/// # Errors
/// If `filter` is invalid or a subscriber is already installed.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let levels: Targets = filter
        .parse()
        .with_context(|| format!("the log filter \"{filter}\" is not a list of levels, such as info,rdkafka=warn"))?;
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let subscriber = tracing_subscriber::registry().with(levels);
    let installed = if json {
        subscriber.with(lines.json().flatten_event(true)).try_init()
    } else {
        subscriber.with(lines).try_init()
    };
    installed.context("cannot install the log subscriber")
}
