//! The views per source: windows, days, kinds and unique sources per minute, which processors derive from the log.

use std::collections::BTreeMap;

use super::{
    advance::{Advance, Applied},
    store::StoreError,
};
use async_trait::async_trait;
use ping_core::{
    Day, Generation, KindCounts, KindRange, Millis, Minute, Offset, Partition, Positions, RetentionCutoffs,
    SourceCounts, Span, Window, WindowSplit,
};

/// The positions of the views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPositions {
    /// The positions they have counted up to.
    pub positions: Positions,
    /// Whether this generation holds unique sources per minute. All flushes into it must then include them.
    pub unique_sources: bool,
}

/// Writes the views. Counts and positions change together or not at all, as in the cache.
#[async_trait]
pub trait SourceViews: Send + Sync {
    /// Their positions; `None` when they were never built.
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError>;

    /// Adds `counts` and moves the positions in one atomic step, if generation and offsets are where `advance` starts.
    /// Otherwise changes nothing.
    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError>;

    /// Rebuilds everything under the generation `new` from one consistent look at the events, if the generation is still
    /// `seen`. False when it is not. The positions are then `ends` and the last sequence number of every writer. The new
    /// generation holds unique sources if `cutoffs` keep any.
    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        new: &Generation,
        ends: &BTreeMap<Partition, Offset>,
        cutoffs: RetentionCutoffs,
    ) -> Result<bool, StoreError>;

    /// Deletes what is older than `cutoffs`, and the marks of writers that can never appear again.
    async fn apply_retention(&self, cutoffs: RetentionCutoffs) -> Result<(), StoreError>;
}

/// The statistics of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceSummary {
    /// Its events per kind.
    pub kinds: BTreeMap<Box<str>, Span>,
    /// Its events in the requested windows.
    pub recent: i64,
}

/// Reads the views. Each answer is consistent in itself.
#[async_trait]
pub trait SourceReader: Send + Sync {
    /// Every event acknowledged before this time is in the views. Read it before the answer that it is to hold for. 0 when
    /// there is no watermark yet.
    async fn as_of(&self) -> Result<Millis, StoreError>;

    /// One source, with its events in the windows from `since` on; `None` when it has no events.
    async fn summary(&self, source: &str, since: Window) -> Result<Option<SourceSummary>, StoreError>;

    /// Per source, the number of events of each of its kinds that is in one of `ranges`.
    async fn kind_counts(&self, sources: &[Box<str>], ranges: &[KindRange]) -> Result<Vec<KindCounts>, StoreError>;

    /// The sources with the most events, in a range or in total: the busiest first, equal ones by name.
    async fn top(&self, range: Option<&WindowSplit>, limit: u32) -> Result<Vec<(String, i64)>, StoreError>;

    /// The windows of a source from `from` to before `to`; empty windows are left out.
    async fn windows(&self, source: &str, from: Window, to: Window) -> Result<BTreeMap<Window, Span>, StoreError>;

    /// The days of a source from `from` to before `to`; empty days are left out.
    async fn days(&self, source: &str, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;

    /// The number of unique sources per minute, within the last hour.
    async fn uniques(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// All events per minute, from the totals: exact at the time of the call.
    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// All events per day, from the totals: exact at the time of the call.
    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;
}
