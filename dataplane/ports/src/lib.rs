//! The promises that the counting protocol stands on, each asked in domain words. `adapters/` keeps them with one technology
//! each; `tests/contract` holds every adapter to them; the simulation breaks them one at a time and watches the count go wrong.

mod advance;
mod cache;
mod causes;
mod clock;
mod log;
mod minutes;
mod statuses;
mod store;
mod views;

pub use advance::{Advance, Applied};
pub use cache::{CacheCounters, CacheError, CacheSnapshot, CounterCache, Flush, Reading};
pub use causes::chain;
pub use clock::Clock;
pub use log::{
    Bounds, ConsumerEvent, DeadLetter, LogBounds, LogConsumer, LogError, LogEvent, LogProducer, Malformed, Record,
};
pub use minutes::{MinuteSummary, MinuteTopic};
pub use statuses::{CACHE_TTL_MINUTES, CachedStatus, Epoch, StatusCache, StatusUpdate, StatusWatermark};
pub use store::{
    Batch, CommitError, Committed, EventStore, Outbox, OutboxRow, OutboxWatermark, Recount, Snapshot, StoreError,
    TotalsStore, WriterTotal,
};
pub use views::{SourceReader, SourceSummary, SourceViews};

/// The cause of an adapter's error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
