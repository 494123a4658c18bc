//! Plain values and their arithmetic. Nothing here does I/O or knows a technology.

mod event;
mod positions;
mod span;
mod status;
mod time;

pub use event::{Event, EventError, MAX_KIND_BYTES, MAX_SOURCE_BYTES, partition_of};
pub use positions::{Generation, Mark, Marks, Offset, Partition, Positions, Promises, Seq, Token, WriterId};
pub use span::Span;
pub use status::{Evidence, Status, StatusRule, Threshold, ThresholdError};
pub use time::{Clock, Day, Millis, Minute, RangeError, RangeSplit, SystemClock, TimeRange, Window, WindowSplit};
