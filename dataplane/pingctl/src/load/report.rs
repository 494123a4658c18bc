//! The report at the end of a load.

use std::time::{Duration, Instant};

use indicatif::HumanCount;
use serde_json::{Value, json};

use super::{
    args::{LoadConfig, Mode},
    check::Check,
    run::Run,
    stats::LoadStats,
};
use crate::{
    exit::Exit,
    output::{self, Format},
};

/// The percentiles to report.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("p99.9", 99.9)];

/// The report at the end of a load.
pub(super) struct Report<'a> {
    config: &'a LoadConfig,
    stats: &'a LoadStats,
    check: Option<Check>,
    /// Events that were due, at a fixed rate.
    due: Option<u64>,
    seconds: f64,
}

impl<'a> Report<'a> {
    /// `ended` is when the senders ended.
    pub(super) fn new(run: &'a Run, stats: &'a LoadStats, ended: Instant, check: Option<Check>) -> Self {
        let due = run.schedule.sends().map(|sends| sends.saturating_mul(u64::from(run.config.batch)));
        let until = stats.last_acknowledged.map_or(ended, |last| last.max(ended.min(run.schedule.end())));
        let seconds = until.duration_since(run.schedule.started()).as_secs_f64();
        Self { config: &run.config, stats, check, due, seconds }
    }

    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        if self.check.as_ref().is_some_and(|check| !check.holds()) {
            Exit::CheckFailed
        } else if self.stats.refused > 0 {
            Exit::Refused
        } else if self.stats.unknown() > 0 || self.stats.acknowledged == 0 {
            Exit::Unavailable
        } else {
            Exit::Success
        }
    }

    /// Prints the report.
    pub(super) fn print(&self, format: Format) -> anyhow::Result<()> {
        if format != Format::Text {
            return output::object(format, &self.to_json());
        }
        output::line(self.headline())?;
        output::line(format!("latency  {}  ({})", self.latencies(), self.latency_basis()))?;
        output::line(format!("errors   {}", self.errors()))?;
        if let Some(missed) = self.not_sent().filter(|missed| *missed > 0) {
            output::line(format!(
                "not sent {} that were due: all allowed calls were waiting for the server",
                HumanCount(missed)
            ))?;
        }
        if let Some(check) = &self.check {
            output::line(format!("check    {}", check.text()))?;
        }
        Ok(())
    }

    fn headline(&self) -> String {
        let Self { config, stats, seconds, .. } = self;
        let requested = config.rate.0.map_or_else(|| "max rate".to_owned(), |rate| format!("requested {rate}/s"));
        let connections = match config.connections {
            1 => "1 connection".to_owned(),
            many => format!("{many} connections"),
        };
        let in_flight = match config.mode {
            Mode::Unary => format!("{} calls", config.in_flight),
            Mode::Stream => format!("{} batches of {}", config.in_flight, config.batch),
        };
        let (acknowledged, rate) = (HumanCount(stats.acknowledged), HumanCount(self.rate()));
        format!(
            "events   {acknowledged} acknowledged in {seconds:.2} s, {rate}/s  \
             ({requested}; {connections}, up to {in_flight} in flight on each)"
        )
    }

    /// Acknowledged events per second.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and rounded for display"
    )]
    fn rate(&self) -> u64 {
        (self.stats.acknowledged as f64 / self.seconds.max(1e-9)).round() as u64
    }

    fn latencies(&self) -> String {
        let latency = &self.stats.latency;
        let percentiles = PERCENTILES.iter().map(|(name, at)| (*name, latency.value_at_percentile(*at)));
        let all = percentiles.chain([("max", latency.max())]);
        all.map(|(name, micros)| format!("{name} {:.2?}", Duration::from_micros(micros))).collect::<Vec<_>>().join("  ")
    }

    fn latency_basis(&self) -> &'static str {
        match (self.config.mode, self.config.rate.0) {
            (Mode::Unary, Some(_)) => "from when an event was due",
            (Mode::Unary, None) => "per event",
            (Mode::Stream, Some(_)) => "from when a batch was due",
            (Mode::Stream, None) => "per batch",
        }
    }

    fn errors(&self) -> String {
        let LoadStats { errors, retries, refused, .. } = self.stats;
        let mut parts: Vec<_> = errors.iter().map(|(code, times)| format!("{code} {}", HumanCount(*times))).collect();
        let counts = [("retried", *retries), ("refused", *refused), ("with unknown outcome", self.stats.unknown())];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        parts.extend(counts.map(|(what, count)| format!("{} {what}", HumanCount(count))));
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }

    fn not_sent(&self) -> Option<u64> {
        self.due.map(|due| due.saturating_sub(self.stats.sent))
    }

    fn to_json(&self) -> Value {
        let Self { config, stats, .. } = self;
        let latency = &stats.latency;
        let mut percentiles: serde_json::Map<_, _> = PERCENTILES
            .iter()
            .map(|(name, at)| ((*name).to_owned(), millis(latency.value_at_percentile(*at)).into()))
            .collect();
        percentiles.insert("max".to_owned(), millis(latency.max()).into());
        json!({
            "mode": match config.mode {
                Mode::Unary => "unary",
                Mode::Stream => "stream",
            },
            "rate_asked": config.rate.0,
            "connections": config.connections,
            "in_flight": config.in_flight,
            "batch": config.batch,
            "ids": config.ids,
            "seconds": self.seconds,
            "rate": self.rate(),
            "sent": stats.sent,
            "not_sent": self.not_sent(),
            "acknowledged": stats.acknowledged,
            "refused": stats.refused,
            "unknown": stats.unknown(),
            "retries": stats.retries,
            "errors": stats.errors,
            "latency_ms": percentiles,
            "latency_samples": latency.len(),
            "check": self.check.as_ref().map(Check::to_json),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a run are far below 2^52")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
