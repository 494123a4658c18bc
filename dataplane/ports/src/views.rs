//! The views per source, which processors derive from the log and keep as segments.

use std::collections::BTreeMap;

use super::{
    advance::{Advance, Applied},
    store::StoreError,
    view_audit::ViewAudit,
};
use async_trait::async_trait;
use ping_core::{Generation, Millis, Offset, Partition, Positions, RetentionCutoffs};
use ping_segments::{Place, Segment, StoredSegment};

/// The positions of the views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPositions {
    /// The positions they have counted up to.
    pub positions: Positions,
    /// Whether this generation holds unique sources per minute. All flushes into it must then include them.
    pub unique_sources: bool,
}

/// Writes the views. Segments and positions change together or not at all, as in the cache.
#[async_trait]
pub trait SourceViews: ViewAudit {
    /// Their positions; `None` when they were never built.
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError>;

    /// Adds `segments` and moves the positions in one atomic step, if generation and offsets are where `advance` starts, and the store
    /// has the events that its marks name. Otherwise changes nothing.
    async fn apply(&self, advance: &Advance, segments: &[Segment]) -> Result<Applied, StoreError>;

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

    /// Places that have at least `fan_in` segments; at most `limit` of them.
    async fn full_places(&self, fan_in: usize, limit: usize) -> Result<Vec<Place>, StoreError>;

    /// The segments at `places`, of each the first `limit` in the order of their numbers.
    async fn segments_at(&self, places: &[Place], limit: usize) -> Result<Vec<StoredSegment>, StoreError>;

    /// Replaces the segments with the numbers `merged` by `sums`, in one atomic step, if all of them are there and the generation is
    /// `generation`. Otherwise changes nothing and returns false: another processor has merged one of them.
    async fn replace(&self, generation: &Generation, merged: &[i64], sums: &[Segment]) -> Result<bool, StoreError>;

    /// Brings tables up to date that people read with SQL, if the store has such tables, for at most a fraction of a second. It is now
    /// `now`.
    async fn export_rows(&self, now: Millis) -> Result<(), StoreError>;
}
