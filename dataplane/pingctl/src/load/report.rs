//! What the load was, and how it went.

use std::{io, time::Instant};

use serde_json::{Value, json};

use super::{
    Run,
    args::{Mode, Plan},
    check::Check,
    tally::Tally,
};
use crate::{
    exit::Exit,
    output::{self, Format, grouped},
};

/// The percentiles to report.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("p99.9", 99.9)];

/// How it went.
pub(super) struct Report<'a> {
    plan: &'a Plan,
    tally: &'a Tally,
    check: Option<Check>,
    /// Pings that were due, when the rate was fixed.
    due: Option<u64>,
    seconds: f64,
}

impl<'a> Report<'a> {
    /// `ended`: when nothing more was sent.
    pub(super) fn new(run: &'a Run, tally: &'a Tally, ended: Instant, check: Option<Check>) -> Self {
        let due = run.schedule.sends().map(|sends| sends * u64::from(run.plan.batch));
        let until = tally.last.map_or(ended, |last| last.max(ended.min(run.schedule.end())));
        let seconds = until.duration_since(run.schedule.started()).as_secs_f64();
        Self { plan: &run.plan, tally, check, due, seconds }
    }

    /// How to exit.
    pub(super) fn exit(&self) -> Exit {
        if self.check.as_ref().is_some_and(|check| !check.holds()) {
            Exit::No
        } else if self.tally.refused > 0 {
            Exit::Refused
        } else if self.tally.unknown() > 0 || self.tally.acknowledged == 0 {
            Exit::Unavailable
        } else {
            Exit::Done
        }
    }

    /// Prints it.
    pub(super) fn print(&self, format: Format) -> io::Result<()> {
        if format == Format::Json {
            return output::line(self.to_json());
        }
        output::line(self.headline())?;
        output::line(format!("latency  {}  ({})", self.latencies(), self.measured()))?;
        output::line(format!("errors   {}", self.errors()))?;
        if let Some(missed) = self.not_sent().filter(|missed| *missed > 0) {
            output::line(format!(
                "not sent {} that were due: every call that may be under way was waiting for its answer",
                grouped(missed)
            ))?;
        }
        self.check.as_ref().map_or(Ok(()), |check| output::line(format!("check    {}", check.text())))
    }

    fn headline(&self) -> String {
        let Self { plan, tally, seconds, .. } = self;
        let asked = plan.rate.0.map_or_else(|| "flat out".to_owned(), |rate| format!("asked for {rate}/s"));
        let pings = output::pings(i64::try_from(tally.acknowledged).unwrap_or(i64::MAX));
        let connections = match plan.connections {
            1 => "1 connection".to_owned(),
            many => format!("{many} connections"),
        };
        let what = match plan.mode {
            Mode::Unary => format!("{} calls", plan.in_flight),
            Mode::Stream => format!("{} batches of {}", plan.in_flight, plan.batch),
        };
        let rate = grouped(self.rate());
        format!(
            "{pings} acknowledged in {seconds:.2} s, {rate}/s  ({asked}; {connections}, up to {what} under way on each)"
        )
    }

    /// Acknowledged pings per second.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a rate is for looking at")]
    fn rate(&self) -> i64 {
        (self.tally.acknowledged as f64 / self.seconds.max(1e-9)).round() as i64
    }

    fn latencies(&self) -> String {
        let latency = &self.tally.latency;
        let percentiles = PERCENTILES.iter().map(|(name, at)| (*name, latency.value_at_percentile(*at)));
        let all = percentiles.chain([("max", latency.max())]);
        all.map(|(name, micros)| format!("{name} {} ms", millis(micros))).collect::<Vec<_>>().join("  ")
    }

    fn measured(&self) -> &'static str {
        match (self.plan.mode, self.plan.rate.0) {
            (Mode::Unary, Some(_)) => "from when a ping was due",
            (Mode::Unary, None) => "of a ping",
            (Mode::Stream, Some(_)) => "from when a batch was due",
            (Mode::Stream, None) => "of a batch",
        }
    }

    fn errors(&self) -> String {
        let Tally { errors, retries, refused, .. } = self.tally;
        let mut parts: Vec<_> = errors.iter().map(|(code, times)| format!("{code} {}", grouped(*times))).collect();
        let counts = [("sent again", *retries), ("refused", *refused), ("of unknown outcome", self.tally.unknown())];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        parts.extend(counts.map(|(what, count)| format!("{} {what}", grouped(count))));
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }

    fn not_sent(&self) -> Option<u64> {
        self.due.map(|due| due.saturating_sub(self.tally.sent))
    }

    fn to_json(&self) -> Value {
        let Self { plan, tally, .. } = self;
        let latency = &tally.latency;
        let mut percentiles: serde_json::Map<_, _> = PERCENTILES
            .iter()
            .map(|(name, at)| ((*name).to_owned(), in_millis(latency.value_at_percentile(*at)).into()))
            .collect();
        percentiles.insert("max".to_owned(), in_millis(latency.max()).into());
        json!({
            "mode": match plan.mode {
                Mode::Unary => "unary",
                Mode::Stream => "stream",
            },
            "rate_asked": plan.rate.0,
            "connections": plan.connections,
            "in_flight": plan.in_flight,
            "batch": plan.batch,
            "ids": plan.ids,
            "seconds": self.seconds,
            "rate": self.rate(),
            "sent": tally.sent,
            "not_sent": self.not_sent(),
            "acknowledged": tally.acknowledged,
            "refused": tally.refused,
            "unknown": tally.unknown(),
            "retries": tally.retries,
            "errors": tally.errors,
            "latency_ms": percentiles,
            "latency_samples": latency.len(),
            "check": self.check.as_ref().map(Check::to_json),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a run are far below 2^52")]
fn in_millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// With as many digits as say something.
fn millis(micros: u64) -> String {
    let digits = if micros < 10_000 { 2 } else { 0 };
    format!("{:.digits$}", in_millis(micros))
}
