//! What a load has done so far.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// Longest latency the histogram distinguishes; longer ones are recorded as this.
const MAX_LATENCY: Duration = Duration::from_secs(600);
/// Significant digits of a percentile.
const SIGNIFICANT_DIGITS: u8 = 3;

/// What a load has done so far, in events.
pub(super) struct LoadStats {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    /// Retried calls and batches.
    pub(super) retries: u64,
    /// Failed attempts and refused events by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// From when a call or batch was due to its acknowledgement, in microseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) last_acknowledged: Option<Instant>,
}

impl LoadStats {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            sent: 0,
            acknowledged: 0,
            refused: 0,
            retries: 0,
            errors: BTreeMap::new(),
            latency: Histogram::new_with_bounds(1, micros(MAX_LATENCY), SIGNIFICANT_DIGITS)?,
            last_acknowledged: None,
        })
    }

    /// Records that a call or batch, due at `due`, is acknowledged with `events` durable.
    pub(super) fn acknowledge(&mut self, events: u64, due: Instant) {
        let now = Instant::now();
        self.acknowledged += events;
        self.latency.saturating_record(micros(now.saturating_duration_since(due).min(MAX_LATENCY)));
        self.last_acknowledged = Some(now);
    }

    /// Records that the server refused an event.
    pub(super) fn refuse(&mut self, code: &str) {
        self.refused += 1;
        self.fail(code);
    }

    /// Records an error.
    pub(super) fn fail(&mut self, code: &str) {
        *self.errors.entry(code.to_owned()).or_default() += 1;
    }

    /// Events that were sent, but neither acknowledged nor refused: they may or may not have been counted.
    pub(super) fn unknown(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged + self.refused)
    }
}

/// The microseconds of a duration of at most `MAX_LATENCY`.
fn micros(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000 + u64::from(duration.subsec_micros())
}
