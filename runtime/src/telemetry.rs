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

/// The levels in `filter`. The audit log stays on unless `filter` names it: it must not depend on how much else is logged.
fn levels(filter: &str) -> anyhow::Result<Targets> {
    let levels: Targets = filter
        .parse()
        .with_context(|| format!("the log filter \"{filter}\" is not a list of levels, such as info,rdkafka=warn"))?;
    let names_audit = levels.iter().any(|(target, _)| target == AUDIT);
    Ok(if names_audit { levels } else { levels.with_target(AUDIT, LevelFilter::INFO) })
}

/// Installs the process-wide log subscriber. `filter` lists levels, one for everything and one per module, separated by commas:
/// `info,rdkafka=warn`. The target `audit` is logged at `info` unless the list names it.
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
}
