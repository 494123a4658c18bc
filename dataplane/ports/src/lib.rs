//! The traits that the counting protocol depends on, in terms of the domain: stores, log, caches, clock. Their docs state
//! what an implementation guarantees. `adapters/` implements them, each with one technology; the contract suites in
//! `dataplane/tests` check every adapter; the simulation breaks the guarantees one at a time and checks that the count goes
//! wrong.
//!
//! Here belong traits, the values they exchange, and arithmetic on those values. No I/O, no clock, no retries.

mod advance;
mod audit;
mod cache;
mod causes;
mod clock;
mod dead_letters;
mod event_retention;
mod incarnations;
mod log;
mod minutes;
mod quotas;
mod source_reader;
mod statuses;
mod storage;
mod store;
mod traces;
mod view_audit;
mod views;

pub use advance::{Advance, Applied};
pub use audit::{Drift, compare, has_counted};
pub use cache::{CacheCounters, CacheError, CacheSnapshot, CounterCache, Flush, Reading};
pub use causes::{Cause, DiskFull, RepeatedFailures, chain};
pub use clock::Clock;
pub use dead_letters::{DeadLetterReader, LetterPage, LetterPosition, LetterQuery, StoredLetter};
pub use event_retention::{EventCutoff, EventRetention};
pub use incarnations::{Incarnation, IncarnationChange, Incarnations, SAME_CHANGE};
pub use log::{
    Bounds, ConsumerEvent, DeadContent, DeadLetter, LogBounds, LogConsumer, LogError, LogEvent, LogProducer, Malformed,
    Record,
};
pub use minutes::{MinuteSummary, MinuteTopic};
pub use quotas::{Name, NamesAdmitted, QuotaStore};
pub use source_reader::{SegmentReader, SourceReader, SourceSummary};
pub use statuses::{
    Access, CACHE_TTL_MINUTES, CacheMillis, CacheVersion, Cached, CachedStatus, Epoch, Listed, MAX_LISTED, NodeHold,
    NodeStatuses, Renewal, Renewed, StatusCache, StatusTimes, Unless,
};
pub use storage::{StoragePart, StorageReader, StorageSizes};
pub use store::{
    Batch, CommitError, Committed, Counted, DroppedEvents, EventStore, Outbox, OutboxRow, OutboxWatermark,
    RangeCountError, Recount, Snapshot, StoreError, TotalsStore, WriterTotal,
};
pub use traces::{TraceContext, TraceLinks, TraceSpan, TraceStep, Tracer, Traces};
pub use view_audit::{PeriodSums, RowDifference, ViewAudit, ViewAuditState, ViewSums, compare_views};
pub use views::{SourceViews, ViewPositions};
