//! The views per source as segments. A segment is a sorted, compressed list of counts, and all segments of a source add up to its counts, so
//! a checkpoint only adds segments, and a merge replaces some of them by their sum.
//!
//! A segment lies at a [`Place`]. The sources are spread over a binary tree by their hash: node 1 has all of them, its children half of them
//! each, and so on. The counts of a source are in segments at the nodes on its path from the root. Small checkpoints are written near the
//! root, large ones are split and written deeper, and [`merge`] moves what becomes too large one step down. A reader therefore reads a few
//! small segments, however many sources there are.
//!
//! Pure: stores keep and return bytes, processors decide when to merge.

mod changes;
mod codec;
mod digest;
mod error;
mod export;
mod merge;
mod place;
mod read;
mod row;
mod varint;

pub use changes::Changes;
pub use digest::AuditedSegment;
pub use error::FormatError;
pub use export::ExportSlices;
pub use merge::{FAN_IN, merge};
pub use place::{Family, Node, NodeRange, Place, Segment, SegmentQuery, StoredSegment};
pub use read::{
    NamesInViews, Ranking, RowCoverage, counts, day_rows, days_of, kind_counts, kind_counts_in, kinds_of, slices,
    sources_in, unique_sources, window_rows, windows_of,
};
