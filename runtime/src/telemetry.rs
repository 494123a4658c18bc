//! Logs to standard error, one line per event: text for terminals, JSON for log collectors.

use std::io::IsTerminal;

use anyhow::Context;

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

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

/// Target of the audit log.
const AUDIT: &str = "audit";

/// Targets with a level of their own, whatever the level for everything. The audit log must not depend on how much else is logged.
/// rustls warns of what a stranger sends in a handshake, so that anyone could fill the log.
const OWN_LEVELS: [(&str, LevelFilter); 2] = [(AUDIT, LevelFilter::INFO), ("rustls", LevelFilter::ERROR)];

/// The levels in `filter`, and those of [`OWN_LEVELS`] that it does not name.
fn levels(filter: &str) -> anyhow::Result<Targets> {
    let levels: Targets = filter
        .parse()
        .with_context(|| format!("the log filter \"{filter}\" is not a list of levels, such as info,rdkafka=warn"))?;
    let named: Vec<String> = levels.iter().map(|(target, _)| target.to_owned()).collect();
    let unnamed = OWN_LEVELS.into_iter().filter(|(target, _)| !named.iter().any(|name| name == target));
    Ok(levels.with_targets(unnamed))
}

/// Installs the process-wide log subscriber. `filter` lists levels, one for everything and one per module, separated by commas:
/// `info,rdkafka=warn`. The target `audit` is logged at `info` and `rustls` at `error` unless the list names them.
///
/// # Errors
/// If `filter` is invalid or a subscriber is already installed.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let levels = levels(filter)?;
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

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_audit_log_is_on_unless_it_is_named() {
        let enabled = |filter: &str| levels(filter).unwrap().would_enable(AUDIT, &Level::INFO);
        assert!(["warn", "error", "off", "ping_rpc=warn"].into_iter().all(enabled));
        assert!(["warn,audit=off", "audit=warn"].into_iter().all(|filter| !enabled(filter)));
        assert!(!levels("warn").unwrap().would_enable("ping_rpc", &Level::INFO));
        assert!(levels("a=b=c").is_err());
    }

    #[test]
    fn strangers_cannot_fill_the_log_with_handshakes() {
        let enabled = |filter: &str| levels(filter).unwrap().would_enable("rustls::msgs::handshake", &Level::WARN);
        assert!(!enabled("info") && !enabled("debug") && enabled("info,rustls=warn"));
    }
}
