//! The count path: log → processor → cache. Whatever is delivered twice, late or to two processors at once is counted once,
//! because counters and positions change together in the cache or not at all.

mod audit;
mod consume;
mod delta;
mod flush;
mod frontier;
mod rebuild;

use std::{sync::Arc, time::Duration};

pub use audit::{Verdict, compare};
pub use consume::Processor;

use crate::{
    domain::Clock,
    ports::{CacheError, CounterCache, EventSink, Ledger, LogBounds, LogError, Outbox, StoreError},
};

/// How the count path behaves.
#[derive(Clone, Debug)]
pub struct CountSettings {
    /// A flush holds at most about this many records.
    pub flush_records: usize,
    /// A flush waits at most this long after its first record.
    pub flush_interval: Duration,
    /// Minutes that per-minute counts are kept.
    pub window: i64,
    /// Pause between looks at how far publishing has come; freshness of `as_of` at best.
    pub frontier_interval: Duration,
    /// Pause between audits.
    pub audit_interval: Duration,
    /// Pause after an error.
    pub retry: Duration,
    /// Closed writers are folded into one after this long; nothing of theirs may still be on its way then.
    pub fold_after: Duration,
}

impl Default for CountSettings {
    fn default() -> Self {
        Self {
            flush_records: 1_000,
            flush_interval: Duration::from_secs(1),
            window: 60,
            frontier_interval: Duration::from_millis(100),
            audit_interval: Duration::from_secs(2),
            retry: Duration::from_millis(200),
            fold_after: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What the count path needs.
#[derive(Clone)]
pub struct CountPorts {
    /// Holds the counters.
    pub cache: Arc<dyn CounterCache>,
    /// Knows the truth.
    pub ledger: Arc<dyn Ledger>,
    /// Knows what is not published.
    pub outbox: Arc<dyn Outbox>,
    /// Knows where the log ends.
    pub bounds: Arc<dyn LogBounds>,
    /// Takes what can't be counted.
    pub sink: Arc<dyn EventSink>,
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
