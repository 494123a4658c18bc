//! The promises that the counting protocol stands on, each asked in domain words. `adapters/` keeps them with one technology
//! each; `tests/contract` holds every adapter to them; the simulation breaks them one at a time and watches the count go wrong.

mod advance;
mod cache;
mod log;
mod minutes;
mod statuses;
mod store;
mod views;

pub use advance::{Advance, Applied};
pub use cache::{CacheError, CounterCache, Counters, Flush, Image, Reading};
pub use log::{
    Bounds, DeadLetter, EventSink, EventSource, LogBounds, LogError, Malformed, Occurrence, Record, SourceEvent,
};
pub use minutes::{MinuteSummary, MinuteTopic};
pub use statuses::{BELIEVED, Epoch, Held, Promise, StatusCache, Testimony};
pub use store::{
    Batch, CommitError, Committed, EventStore, Frontier, Ledger, Outbox, OutboxRow, Recount, Snapshot, StoreError,
    WriterTotal,
};
pub use views::{Kept, Retention, SourceCounts, SourceReader, SourceSummary, SourceViews};

/// The cause of an adapter's error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
