//! What happened so far.

use std::{collections::BTreeMap, time::Instant};

use hdrhistogram::Histogram;

/// Latencies above ten minutes are recorded as that.
const LONGEST_MICROS: u64 = 600_000_000;
/// Significant digits of a percentile.
const DIGITS: u8 = 3;

/// What happened so far, in pings.
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    /// Calls and batches that were sent again.
    pub(super) retries: u64,
    /// Failed attempts and refused pings by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// From the moment a send was due to its acknowledgement, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// The last acknowledgement.
    pub(super) last: Option<Instant>,
}

impl Tally {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            sent: 0,
            acknowledged: 0,
            refused: 0,
            retries: 0,
            errors: BTreeMap::new(),
            latency: Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS)?,
            last: None,
        })
    }

    /// A send that was due at `due` is acknowledged, with `pings` recorded.
    pub(super) fn acknowledge(&mut self, pings: u64, due: Instant) {
        let now = Instant::now();
        let micros = now.saturating_duration_since(due).as_micros();
        self.acknowledged += pings;
        self.latency.saturating_record(u64::try_from(micros).unwrap_or(LONGEST_MICROS));
        self.last = Some(now);
    }

    pub(super) fn refuse(&mut self, pings: u64, code: &str) {
        self.refused += pings;
        self.err(pings, code);
    }

    pub(super) fn err(&mut self, times: u64, code: &str) {
        *self.errors.entry(code.to_owned()).or_default() += times;
    }

    /// Pings that were sent and neither acknowledged nor refused: they may be recorded or not.
    pub(super) fn unknown(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged + self.refused)
    }
}
