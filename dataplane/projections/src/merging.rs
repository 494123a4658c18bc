//! Merges segments of the views after each flush, so that a reader finds few of them at each place.
//!
//! With uniform keys, all places at a depth are full after the same flush. A flush that merged them all at once would take seconds, and
//! the views would be late. It therefore merges for a limited time, and the next flushes merge the rest. A place that has
//! more than twice as many segments as a full one does not wait any longer, so merging never falls behind.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{task::yield_now, time::Instant};

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
/// How long a flush merges places that can wait.
const MERGE_TIME: Duration = Duration::from_millis(250);
/// A place with at least this many times the segments of a full one is merged before the flush ends.
const OVERFULL: usize = 2;

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
    /// Places that are full, the longest waiting first.
    full: VecDeque<Place>,
    /// Places that have too many segments to wait.
    overfull: VecDeque<Place>,
    /// Other processes may have left full places: ask the store.
    search: bool,
}

/// The number of segments from which a place does not wait. It differs between places, or all places at a depth would reach it at the same
/// time.
fn overfull_at(place: Place, fan_in: usize) -> usize {
    OVERFULL * fan_in + place.node.0.unsigned_abs() as usize % fan_in
}

impl State {
    /// Notes a segment that was added at `place`.
    fn add(&mut self, place: Place, fan_in: usize) {
        let count = self.added.entry(place).or_insert(0);
        *count += 1;
        if *count == fan_in {
            self.full.push_back(place);
        } else if *count == overfull_at(place, fan_in) {
            self.overfull.push_back(place);
        }
    }

    /// Notes a place that the store says is full.
    fn find(&mut self, place: Place, fan_in: usize) {
        let count = self.added.entry(place).or_insert(0);
        if *count < fan_in {
            *count = fan_in;
            self.full.push_back(place);
        }
    }

    /// Takes up to `limit` places that are still full: overfull ones, and the others if `in_time`.
    fn take(&mut self, fan_in: usize, limit: usize, in_time: bool) -> Vec<Place> {
        let mut places = Vec::new();
        while places.len() < limit {
            let next = self.overfull.pop_front().or_else(|| if in_time { self.full.pop_front() } else { None });
            let Some(place) = next else { break };
            // It was overfull and full, and is merged already.
            if self.added.get(&place).is_some_and(|added| *added >= fan_in) && !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
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
        let mut state = self.state.lock();
        for Segment { place, .. } in segments {
            state.add(*place, self.fan_in);
        }
        if state.added.len() > MAX_COUNTED {
            *state = State { search: true, ..State::default() };
        }
    }

    /// Merges full places: about as many as `written` segments fill, for a limited time. A failure is logged; the places are then
    /// merged later.
    pub(super) async fn merge(&self, generation: &Generation, written: usize) {
        if let Err(error) = self.merge_places(generation, written.max(MIN_PLACES)).await {
            self.search_again();
            tracing::warn!(error = chain(&error), "segments of the views not merged; retrying");
        }
    }

    async fn merge_places(&self, generation: &Generation, limit: usize) -> Result<(), CountError> {
        let search = {
            let state = self.state.lock();
            state.search && state.full.is_empty()
        };
        if search {
            self.search(limit).await?;
        }
        let end = Instant::now() + MERGE_TIME;
        for _ in 0..limit.div_ceil(PLACES_PER_TRANSACTION) {
            let in_time = Instant::now() < end;
            let places = self.state.lock().take(self.fan_in, PLACES_PER_TRANSACTION, in_time);
            if places.is_empty() {
                break;
            }
            self.merge_together(generation, &places).await?;
        }
        Ok(())
    }

    /// Asks the store for up to `limit` full places.
    async fn search(&self, limit: usize) -> Result<(), CountError> {
        let found = self.views.full_places(self.fan_in, limit).await?;
        let mut state = self.state.lock();
        state.search = found.len() >= limit;
        for place in found {
            state.find(place, self.fan_in);
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
        let replaced = merged.is_empty() || self.views.replace(generation, &merged, &sums).await?;
        let mut state = self.state.lock();
        for place in places {
            state.added.remove(place);
        }
        if !replaced {
            // Another processor was faster at one of the places. The others are still full.
            state.search = true;
            return Ok(());
        }
        for place in unfinished {
            state.find(place, self.fan_in);
        }
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
    const FULL: usize = 3;

    fn places(number: i32) -> Vec<Place> {
        (0..number).map(|node| Place { family: Family::Windows, node: Node(256 + node), period: 20_000 }).collect()
    }

    fn add(state: &mut State, places: &[Place], times: usize) {
        for _ in 0..times {
            places.iter().for_each(|place| state.add(*place, FULL));
        }
    }

    #[test]
    fn full_places_wait_and_overfull_ones_do_not() {
        let (mut state, places) = (State::default(), places(4));
        add(&mut state, &places, FULL);
        assert_eq!(state.take(FULL, 9, false), []);
        assert_eq!(state.take(FULL, 1, true), places[..1]);
        state.added.remove(&places[0]);
        add(&mut state, &places[2..3], overfull_at(places[2], FULL) - FULL);
        assert_eq!(state.take(FULL, 9, false), places[2..3]);
        state.added.remove(&places[2]);
        assert_eq!(state.take(FULL, 9, true), [places[1], places[3]]);
    }

    #[test]
    fn a_place_that_the_store_found_is_merged_once() {
        let (mut state, places) = (State::default(), places(2));
        add(&mut state, &places[..1], FULL);
        places.iter().for_each(|place| state.find(*place, FULL));
        assert_eq!(state.take(FULL, 9, true), places);
    }

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
        assert_eq!(Vec::from(merging.state.lock().full.clone()), [place]);
        merging.search_again();
        while !store.full_places(4, 1).await.unwrap().is_empty() {
            merging.merge(&generation, 0).await;
        }
        let counts: Vec<_> = store.views().unwrap().kinds.into_values().map(|span| span.count).collect();
        assert_eq!(counts, [SEGMENTS as i64]);
    }
}
