//! The count path: log → processor → projection. Whatever is delivered twice, late or to two processors at once is counted once,
//! because sums and positions change together in a projection or not at all. There are two, each with a processor of its own:
//! the counters in the cache, and the views per source in the store.

mod audit;
mod consume;
mod counters;
mod delta;
mod flush;
mod metrics;
mod minutes;
mod projection;
mod rebuild;
mod sources;
mod watermark;

use std::{sync::Arc, time::Duration};

pub use audit::{AuditOutcome, compare};
pub use consume::Processor;
pub use counters::{CounterProjection, EventCounts};
pub use metrics::CountMetrics;
pub use minutes::MinutePublisher;
pub use projection::{Projection, Sums};
pub use sources::{SourceProjection, StatusProjection};

use ping_ports::{CacheError, Clock, LogBounds, LogError, LogProducer, Outbox, StoreError};

/// How the count path behaves.
#[derive(Clone, Debug)]
pub struct CountSettings {
    /// A flush holds at most about this many records.
    pub flush_records: usize,
    /// A flush waits at most this long after its first record.
    pub flush_interval: Duration,
    /// MinutePublisher that per-minute counts are kept.
    pub window: i64,
    /// Pause between looks at how far publishing has come; freshness of `as_of` at best.
    pub watermark_interval: Duration,
    /// Pause between audits.
    pub audit_interval: Duration,
    /// Pause after an error.
    pub retry: Duration,
    /// Closed writers are compacted into one after this long; nothing of theirs may still be on its way then.
    pub compact_after: Duration,
}

impl Default for CountSettings {
    fn default() -> Self {
        Self {
            flush_records: 1_000,
            flush_interval: Duration::from_secs(1),
            window: 60,
            watermark_interval: Duration::from_millis(100),
            audit_interval: Duration::from_secs(2),
            retry: Duration::from_millis(200),
            compact_after: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What every processor needs, whatever it makes of the log.
#[derive(Clone)]
pub struct LogPorts {
    /// Knows what is not published.
    pub outbox: Arc<dyn Outbox>,
    /// Knows where the log ends.
    pub bounds: Arc<dyn LogBounds>,
    /// Takes what can't be counted.
    pub sink: Arc<dyn LogProducer>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Something outside did not answer.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
