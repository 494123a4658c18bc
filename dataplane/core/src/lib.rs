//! Plain values and their arithmetic. Nothing here does I/O or knows a technology.

mod event;
mod positions;
mod retention;
mod source_counts;
mod span;
mod status;
mod time;

pub use event::{Event, EventError, MAX_KIND_BYTES, MAX_SOURCE_BYTES, partition_of};
pub use positions::{Generation, Mark, Marks, Offset, Partition, Positions, Seq, Token, Watermarks, WriterId};
pub use retention::{Retention, RetentionCutoffs};
pub use source_counts::SourceCounts;
pub use span::Span;
pub use status::{StatusCounts, StatusRule, Threshold, ThresholdError, Verdict};
pub use time::{Day, Millis, Minute, RangeError, RangeSplit, TimeRange, Window, WindowSplit};
