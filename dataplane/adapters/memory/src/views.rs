//! The views per source, under the same lock as the events that they are rebuilt from.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    state::{State, Views},
    store::MemoryStore,
};
use ping_core::{
    Day, Generation, Mark, Marks, Millis, Minute, Offset, Partition, Positions, RetentionCutoffs, SourceCounts,
    Watermarks, ahead_of_store,
};
use ping_ports::{Advance, Applied, SegmentReader, SourceViews, StoreError, ViewPositions};
use ping_segments::{Changes, Family, FormatError, Node, Place, Segment, SegmentQuery, StoredSegment, counts};

fn unreadable(error: FormatError) -> StoreError {
    StoreError(error.into())
}

#[async_trait]
impl SourceViews for MemoryStore {
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError> {
        let position =
            |views: &Views| ViewPositions { positions: views.positions.clone(), unique_sources: views.unique_sources };
        Ok(self.state.lock().views.as_ref().map(position))
    }

    async fn apply(&self, advance: &Advance, segments: &[Segment]) -> Result<Applied, StoreError> {
        let mut state = self.state.lock();
        if let Some(why) = advance.refusal(state.views.as_ref().map(|views| &views.positions)) {
            return Ok(Applied::Stale(why));
        }
        let last_seqs = state.last_seqs(advance.marks.keys().map(|(writer, _)| *writer));
        if let Some(ahead) = ahead_of_store(advance.writers(), &last_seqs) {
            return Ok(Applied::Stale(ahead.to_string()));
        }
        if let Some(views) = state.views.as_mut() {
            advance.apply(&mut views.positions);
            views.add(segments);
            if let Some(as_of) = advance.as_of {
                views.watermarks.advance(as_of, advance.from.keys(), advance.partitions);
            }
        }
        Ok(Applied::Done)
    }

    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        new: &Generation,
        ends: &BTreeMap<Partition, Offset>,
        cutoffs: RetentionCutoffs,
    ) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        if state.views.as_ref().map(|views| &views.positions.generation) != seen {
            return Ok(false);
        }
        let mut changes = Changes::default();
        for event in state.events.values() {
            changes.add(&event.source, &event.kind, event.timestamp_ms);
        }
        let mut segments = changes.segments(cutoffs).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let base = state.dropped.base.values();
        segments.extend(base.filter(|segment| !is_expired(segment.place, cutoffs)).cloned());
        let base = |last_seq| Mark { base: last_seq, partitions: BTreeMap::new() };
        let marks = Marks(state.writers.iter().map(|(id, writer)| (*id, base(writer.last_seq))).collect());
        let now = self.clock.now();
        // Numbers are never used again: a merge that began before the rebuild must not find its segments.
        let next_segment = state.views.as_ref().map_or(1, |views| views.next_segment);
        let mut views = Views {
            positions: Positions { generation: new.clone(), offsets: ends.clone(), marks },
            unique_sources: cutoffs.minutes.is_some(),
            segments: BTreeMap::new(),
            added: BTreeMap::new(),
            next_segment,
            watermarks: Watermarks(ends.keys().map(|partition| (*partition, now)).collect()),
        };
        views.add(&segments);
        state.views = Some(views);
        Ok(true)
    }

    async fn apply_retention(&self, cutoffs: RetentionCutoffs) -> Result<(), StoreError> {
        let mut guard = self.state.lock();
        let State { views, writers, dropped, .. } = &mut *guard;
        dropped.base.retain(|place, _| !is_expired(*place, cutoffs));
        if let Some(views) = views.as_mut() {
            views.segments.retain(|_, audited| !is_expired(audited.segment.place, cutoffs));
            views.added.retain(|(family, period), _| {
                !is_expired(Place { family: *family, node: Node::ROOT, period: *period }, cutoffs)
            });
            views.positions.marks.0.retain(|writer, _| writers.contains_key(writer));
        }
        Ok(())
    }

    async fn full_places(&self, fan_in: usize, limit: usize) -> Result<Vec<Place>, StoreError> {
        let mut counts: BTreeMap<Place, usize> = BTreeMap::new();
        for segment in self.select(|_| true) {
            *counts.entry(segment.place).or_insert(0) += 1;
        }
        Ok(counts.into_iter().filter(|(_, count)| *count >= fan_in).map(|(place, _)| place).take(limit).collect())
    }

    async fn segments_at(&self, places: &[Place], limit: usize) -> Result<Vec<StoredSegment>, StoreError> {
        let mut counts: BTreeMap<_, usize> = places.iter().map(|place| (*place, 0)).collect();
        let mut segments = self.select(|place| counts.contains_key(&place));
        segments.retain(|segment| {
            let count = counts.entry(segment.place).or_default();
            *count += 1;
            *count <= limit
        });
        Ok(segments)
    }

    async fn replace(&self, generation: &Generation, merged: &[i64], sums: &[Segment]) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        let views = state.views.as_mut().filter(|views| views.positions.generation == *generation);
        let Some(views) = views.filter(|views| merged.iter().all(|id| views.segments.contains_key(id))) else {
            return Ok(false);
        };
        for id in merged {
            views.segments.remove(id);
        }
        views.insert(sums);
        Ok(true)
    }

    /// There are none.
    async fn export_rows(&self, _: Millis) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Whether the views no longer keep what lies at `place`.
fn is_expired(place: Place, cutoffs: RetentionCutoffs) -> bool {
    match place.family {
        Family::Kinds => false,
        Family::Windows => Day(place.period) < cutoffs.windows,
        Family::Days => Day(place.period) < cutoffs.days,
        Family::Minutes => cutoffs.minutes.is_none_or(|first| Minute(place.period) < first),
    }
}

impl MemoryStore {
    /// The content of the views; empty before they are built.
    ///
    /// # Errors
    /// When a segment is not readable.
    pub fn views(&self) -> Result<SourceCounts, FormatError> {
        counts(&self.select(|_| true))
    }

    /// What the views should hold: all events, counted one by one, also those that were dropped.
    #[must_use]
    pub fn recounted_views(&self) -> SourceCounts {
        self.state.lock().recounted_views()
    }

    /// The segments of the views at the places that `wanted` accepts.
    pub(super) fn select(&self, wanted: impl Fn(Place) -> bool) -> Vec<StoredSegment> {
        self.state.lock().views.as_ref().map_or_else(Vec::new, |views| views.select(wanted))
    }
}

#[async_trait]
impl SegmentReader for MemoryStore {
    async fn as_of(&self) -> Result<Millis, StoreError> {
        Ok(self.state.lock().views.as_ref().map_or(0, |views| views.watermarks.lowest()))
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<StoredSegment>, StoreError> {
        Ok(self.select(|place| queries.iter().any(|query| query.contains(place))))
    }

    async fn many_segments(&self, queries: &[SegmentQuery]) -> Result<Vec<StoredSegment>, StoreError> {
        self.segments(queries).await
    }

    async fn deepest(&self, family: Family) -> Result<Node, StoreError> {
        let segments = self.select(|place| place.family == family);
        Ok(segments.iter().map(|segment| segment.place.node).max().unwrap_or(Node::ROOT))
    }

    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        let state = self.state.lock();
        Ok(state.minutes.range(from..to.max(from)).map(|(minute, (count, _))| (*minute, *count)).collect())
    }

    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError> {
        let mut days = BTreeMap::new();
        for (minute, count) in self.all_minutes(from.first_minute(), to.first_minute()).await? {
            *days.entry(minute.day()).or_insert(0) += count;
        }
        Ok(days)
    }
}
