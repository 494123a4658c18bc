//! The views per source: what a processor makes of the log, in tables of the store.

use std::collections::BTreeMap;

use super::{Advance, Applied, StoreError};
use async_trait::async_trait;
use ping_core::{
    Day, Generation, Millis, Minute, Offset, Partition, Positions, RetentionCutoffs, SourceCounts, Span, Window,
    WindowSplit,
};

/// Writing the views: counts and positions change together or not at all, as in the cache.
#[async_trait]
pub trait SourceViews: Send + Sync {
    /// Where they stand; `None` when they were never built.
    async fn positions(&self) -> Result<Option<Positions>, StoreError>;

    /// Adds `counts` and moves the positions in one atomic step, if generation and offsets are as `advance` says.
    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError>;

    /// Builds everything anew from one consistent look at the events, at these offsets and after the last number of every
    /// writer, under a new generation, if the generation is still `seen`. False: it is not.
    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        ends: &BTreeMap<Partition, Offset>,
        kept: RetentionCutoffs,
    ) -> Result<bool, StoreError>;

    /// Drops what is not kept any more, and the marks of writers that can never appear again.
    async fn apply_retention(&self, kept: RetentionCutoffs) -> Result<(), StoreError>;
}

/// What is known of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceSummary {
    /// Per kind.
    pub kinds: BTreeMap<Box<str>, Span>,
    /// Events in the windows asked for.
    pub recent: i64,
}

/// Reading the views. Each answer is from one look.
#[async_trait]
pub trait SourceReader: Send + Sync {
    /// Every event acknowledged before this time is in the views: to be asked before what it is to hold for. 0 when nothing is
    /// promised.
    async fn as_of(&self) -> Result<Millis, StoreError>;

    /// One source, with its events in the windows from `since` on; `None` when it was never seen.
    async fn summary(&self, source: &str, since: Window) -> Result<Option<SourceSummary>, StoreError>;

    /// What a source did; nothing when it was never seen.
    async fn kinds(&self, source: &str) -> Result<BTreeMap<Box<str>, Span>, StoreError> {
        Ok(self.summary(source, Window(i64::MAX)).await?.unwrap_or_default().kinds)
    }

    /// How often each of these did that: (source, kind) pairs.
    async fn counts(&self, pairs: &[(Box<str>, Box<str>)]) -> Result<Vec<i64>, StoreError>;

    /// The sources with the most events in a range, or ever, the busiest first, equals by name.
    async fn top(&self, range: Option<&WindowSplit>, limit: u32) -> Result<Vec<(String, i64)>, StoreError>;

    /// A source's windows from `from` to before `to`; those without an event are left out.
    async fn windows(&self, source: &str, from: Window, to: Window) -> Result<BTreeMap<Window, Span>, StoreError>;

    /// A source's days from `from` to before `to`; those without an event are left out.
    async fn days(&self, source: &str, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;

    /// How many sources there were per minute, of the last hour.
    async fn uniques(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// Everything per minute, from the totals: exact as of now.
    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// Everything per day, likewise.
    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;
}
