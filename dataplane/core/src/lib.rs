//! Plain values and their arithmetic: events, time ranges, positions, watermarks, retention, the status rule,
//! quotas.
//!
//! Here belongs whatever is true without a database, a log or a network. Nothing here does I/O, reads a clock, logs or counts.

mod event;
mod event_day;
mod positions;
mod quota;
mod retention;
mod revocation;
mod source_counts;
mod span;
mod status;
mod time;

pub use event::{Event, EventError, MAX_KIND_BYTES, MAX_SOURCE_BYTES, partition_of};
pub use event_day::{IdDays, id_day, ids_before, ids_since, kept_from};
pub use positions::{
    AheadOfStore, Generation, LastSeqs, Mark, Marks, Offset, Partition, Positions, Seq, Token, Watermarks, WriterId,
    ahead_of_store, partition_count, partition_number, seq_offset,
};
pub use quota::{BucketClaim, BucketGrant, NANOS_PER_SECOND, Nanos, cost, until_next_day};
pub use retention::{Retention, RetentionCutoffs};
pub use revocation::{KindCounts, KindRange, Revocation};
pub use source_counts::SourceCounts;
pub use span::Span;
pub use status::{StatusCounts, StatusRule, Threshold, ThresholdError, Verdict};
pub use time::{Day, Millis, Minute, RangeError, RangeSplit, TimeRange, Window, WindowSplit, millis};
