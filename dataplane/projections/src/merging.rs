//! Merges segments of the views after each flush, so that a reader finds few of them at each place.
//!
//! A flush waits for the merges that it made necessary. Their number is proportional to what was written, so merging never falls behind.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::task::yield_now;

use super::error::CountError;
use ping_core::Generation;
use ping_ports::{SourceViews, chain};
use ping_segments::{Place, Segment, merge};

/// Places that are merged in one transaction.
const PLACES_PER_TRANSACTION: usize = 16;
/// Segments that are merged at one place at once, in fan-ins. A rebuild of a billion events leaves more than a thousand at a place; all of
/// them would need more memory than a processor has.
const MAX_FAN_INS: usize = 2;
/// Places that are merged after a flush at least, to catch up after a rebuild or a crash.
const MIN_PLACES: usize = 64;
/// Places whose segments are counted in memory at most: about 40 MB.
const MAX_COUNTED: usize = 1_000_000;

/// Merges full places.
pub(super) struct MergeTask {
    views: Arc<dyn SourceViews>,
    fan_in: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The segments that this process has added at each place since the place was merged. Those of other processes do not count: a place
    /// then has more segments than necessary, up to `fan_in` per process.
    added: BTreeMap<Place, usize>,
    /// Places that have enough segments.
    full: Vec<Place>,
    /// Other processes may have left full places: ask the store.
    search: bool,
}

impl MergeTask {
    pub(super) fn new(views: Arc<dyn SourceViews>, fan_in: usize) -> Self {
        Self { views, fan_in, state: Mutex::default() }
    }

    /// Asks the store for full places before the next merge.
    pub(super) fn search_again(&self) {
        *self.state.lock() = State { search: true, ..State::default() };
    }

    /// Notes segments that were added.
    pub(super) fn added(&self, segments: &[Segment]) {
        let mut guard = self.state.lock();
        let State { added, full, search } = &mut *guard;
        for Segment { place, .. } in segments {
            let count = added.entry(*place).or_insert(0);
            *count += 1;
            if *count == self.fan_in {
                full.push(*place);
            }
        }
        if added.len() > MAX_COUNTED {
            added.clear();
            *search = true;
        }
    }

    /// Merges full places: about as many as `written` segments fill. A failure is logged; the places are then merged later.
    pub(super) async fn merge(&self, generation: &Generation, written: usize) {
        if let Err(error) = self.merge_places(generation, written.max(MIN_PLACES)).await {
            self.search_again();
            tracing::warn!(error = chain(&error), "segments of the views not merged; retrying");
        }
    }

    async fn merge_places(&self, generation: &Generation, limit: usize) -> Result<(), CountError> {
        if self.state.lock().search {
            let found = self.views.full_places(self.fan_in, limit).await?;
            let mut state = self.state.lock();
            state.search = found.len() >= limit;
            state.full.extend(found);
            state.full.sort_unstable();
            state.full.dedup();
        }
        for _ in 0..limit.div_ceil(PLACES_PER_TRANSACTION) {
            let places: Vec<_> = {
                let mut state = self.state.lock();
                let from = state.full.len().saturating_sub(PLACES_PER_TRANSACTION);
                state.full.drain(from..).collect()
            };
            if places.is_empty() {
                break;
            }
            self.merge_together(generation, &places).await?;
        }
        Ok(())
    }

    /// Merges the segments at `places` in one transaction. A place that has many is merged in parts, of which this is one.
    async fn merge_together(&self, generation: &Generation, places: &[Place]) -> Result<(), CountError> {
        let (mut merged, mut sums, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
        let mut found: BTreeMap<Place, Vec<_>> = BTreeMap::new();
        let limit = self.fan_in * MAX_FAN_INS;
        for segment in self.views.segments_at(places, limit).await? {
            found.entry(segment.place).or_default().push(segment);
        }
        for (place, segments) in found {
            // Another processor may have merged the others.
            if segments.len() < self.fan_in {
                continue;
            }
            if segments.len() >= limit {
                unfinished.push(place);
            }
            sums.extend(merge(place, segments.iter().map(|segment| segment.data.as_slice()))?);
            merged.extend(segments.iter().map(|segment| segment.id));
            yield_now().await;
        }
        if !merged.is_empty() && !self.views.replace(generation, &merged, &sums).await? {
            // Another processor was faster at one of the places. The others are still full.
            self.state.lock().search = true;
            return Ok(());
        }
        let mut state = self.state.lock();
        for place in places {
            state.added.remove(place);
        }
        state.full.extend(unfinished);
        drop(state);
        self.added(&sums);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ping_core::Retention;
    use ping_memory::{MemoryStore, SystemClock};
    use ping_ports::{Advance, Applied};
    use ping_segments::{Changes, Family, Node};

    use super::*;

    const SEGMENTS: usize = 100;

    #[tokio::test]
    async fn a_place_with_many_segments_is_merged_in_parts() {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let (generation, cutoffs) = (Generation::from("g"), Retention::default().at(0));
        assert!(store.rebuild(None, &generation, &[(0, 0)].into(), cutoffs).await.unwrap());
        for at in 0..SEGMENTS as i64 {
            let mut changes = Changes::default();
            changes.add("a", "", 0);
            let segments: Vec<_> = changes.segments(cutoffs).map(Result::unwrap).collect();
            let (from, to) = ([(0, at)].into(), [(0, at + 1)].into());
            let advance = Advance { generation: generation.clone(), from, to, ..Advance::default() };
            assert_eq!(store.apply(&advance, &segments).await.unwrap(), Applied::Done);
        }
        let merging = MergeTask::new(Arc::<MemoryStore>::clone(&store), 4);
        let place = Place { family: Family::Kinds, node: Node::ROOT, period: 0 };
        merging.merge_together(&generation, &[place]).await.unwrap();
        assert_eq!(store.segments_at(&[place], SEGMENTS).await.unwrap().len(), SEGMENTS - 4 * MAX_FAN_INS + 1);
        assert_eq!(merging.state.lock().full, [place]);
        merging.search_again();
        while !store.full_places(4, 1).await.unwrap().is_empty() {
            merging.merge(&generation, 0).await;
        }
        let counts: Vec<_> = store.views().unwrap().kinds.into_values().map(|span| span.count).collect();
        assert_eq!(counts, [SEGMENTS as i64]);
    }
}
