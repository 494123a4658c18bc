//! How the count path behaves, and the ports that every processor needs.

use std::{sync::Arc, time::Duration};

use ping_ports::{Clock, Incarnations, LogBounds, LogProducer, Outbox, Traces};
use ping_segments::FAN_IN;

/// How the count path behaves.
#[derive(Clone, Debug)]
pub struct CountSettings {
    /// A flush of the counters holds at most about this many records.
    pub flush_records: usize,
    /// A flush of the views holds events of at most about this many bytes in memory. The next one fills while one is written, so a
    /// processor needs twice as much.
    pub flush_bytes: usize,
    /// A flush starts at most this long after its first record was read.
    pub flush_interval: Duration,
    /// How many minutes of per-minute counts the cache keeps.
    pub window: i64,
    /// Pause between two checks of how far publishing has come: the best possible freshness of `as_of`.
    pub watermark_interval: Duration,
    /// Pause between two audits.
    pub audit_interval: Duration,
    /// Pause after an error.
    pub retry: Duration,
    /// Segments of the views at one place that are merged.
    pub fan_in: usize,
    /// Writers that were closed this long ago are compacted into one. None of their records may still be in flight by then.
    pub compact_after: Duration,
    /// The restore that the store was started from; `None` if it was started empty.
    pub restore_id: Option<String>,
}

impl Default for CountSettings {
    fn default() -> Self {
        Self {
            flush_records: 4_000,
            flush_bytes: 32 << 20,
            flush_interval: Duration::from_secs(1),
            window: 60,
            watermark_interval: Duration::from_millis(100),
            audit_interval: Duration::from_secs(2),
            retry: Duration::from_millis(200),
            fan_in: FAN_IN,
            compact_after: Duration::from_secs(24 * 60 * 60),
            restore_id: None,
        }
    }
}

/// The ports that every processor needs, whatever its projection.
#[derive(Clone)]
pub struct LogPorts {
    /// Knows which commits are not published yet.
    pub outbox: Arc<dyn Outbox>,
    /// Knows where the log ends.
    pub bounds: Arc<dyn LogBounds>,
    /// Takes dead letters.
    pub producer: Arc<dyn LogProducer>,
    /// Keeps the last change of an incarnation.
    pub incarnations: Arc<dyn Incarnations>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Starts spans of flushes.
    pub traces: Traces,
}
