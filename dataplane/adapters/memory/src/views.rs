//! The views per source, under the same lock as the events that they are rebuilt from.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{state::Views, store::MemoryStore};
use ping_core::{
    Day, Generation, KindCounts, KindRange, Mark, Marks, Millis, Minute, Offset, Partition, Positions,
    RetentionCutoffs, SourceCounts, Span, Watermarks, Window, WindowSplit,
};
use ping_ports::{Advance, Applied, SourceReader, SourceSummary, SourceViews, StoreError, ViewPositions};

#[async_trait]
impl SourceViews for MemoryStore {
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError> {
        let position =
            |views: &Views| ViewPositions { positions: views.positions.clone(), unique_sources: views.unique_sources };
        Ok(self.state.lock().views.as_ref().map(position))
    }

    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError> {
        let mut state = self.state.lock();
        if let Some(why) = advance.refusal(state.views.as_ref().map(|views| &views.positions)) {
            return Ok(Applied::Stale(why));
        }
        if let Some(views) = state.views.as_mut() {
            advance.apply(&mut views.positions);
            views.counts.merge(counts);
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
        let counts = state.recounted_views();
        let base = |last_seq| Mark { base: last_seq, partitions: BTreeMap::new() };
        let marks = Marks(state.writers.iter().map(|(id, writer)| (*id, base(writer.last_seq))).collect());
        let positions = Positions { generation: new.clone(), offsets: ends.clone(), marks };
        let now = self.clock.now();
        let watermarks = Watermarks(ends.keys().map(|partition| (*partition, now)).collect());
        let unique_sources = cutoffs.minutes.is_some();
        state.views = Some(Views { positions, unique_sources, counts: cutoffs.keep(counts), watermarks });
        Ok(true)
    }

    async fn apply_retention(&self, cutoffs: RetentionCutoffs) -> Result<(), StoreError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(views) = state.views.as_mut() {
            views.counts = cutoffs.keep(std::mem::take(&mut views.counts));
            views.positions.marks.0.retain(|writer, _| state.writers.contains_key(writer));
        }
        Ok(())
    }
}

impl MemoryStore {
    /// The content of the views; empty before they are built.
    #[must_use]
    pub fn views(&self) -> SourceCounts {
        self.read_views(Clone::clone)
    }

    /// What the views should hold: all events, counted one by one.
    #[must_use]
    pub fn recounted_views(&self) -> SourceCounts {
        self.state.lock().recounted_views()
    }
}

/// The entries of a source from the key `from` to before `to`.
fn of_source<'a, K: Ord + Copy, V: Copy>(
    counts: &'a BTreeMap<(Box<str>, K), V>,
    source: &str,
    from: K,
    to: K,
) -> impl Iterator<Item = (K, V)> + use<'a, K, V> {
    let bounds = (source.into(), from)..(source.into(), to.max(from));
    counts.range(bounds).map(|((_, key), value)| (*key, *value))
}

impl MemoryStore {
    /// What `read` finds in the counts; the default before they are built.
    fn read_views<T: Default>(&self, read: impl FnOnce(&SourceCounts) -> T) -> T {
        self.state.lock().views.as_ref().map_or_else(T::default, |views| read(&views.counts))
    }
}

#[async_trait]
impl SourceReader for MemoryStore {
    async fn as_of(&self) -> Result<Millis, StoreError> {
        Ok(self.state.lock().views.as_ref().map_or(0, |views| views.watermarks.lowest()))
    }

    async fn summary(&self, source: &str, since: Window) -> Result<Option<SourceSummary>, StoreError> {
        Ok(self.read_views(|counts| {
            let kinds = counts.kinds.range((source.into(), "".into())..).take_while(|((of, _), _)| &**of == source);
            let kinds: BTreeMap<_, _> = kinds.map(|((_, kind), span)| (kind.clone(), *span)).collect();
            let recent = of_source(&counts.windows, source, since, Window(i64::MAX)).map(|(_, span)| span.count).sum();
            (!kinds.is_empty()).then_some(SourceSummary { kinds, recent })
        }))
    }

    async fn kind_counts(&self, sources: &[Box<str>], ranges: &[KindRange]) -> Result<Vec<KindCounts>, StoreError> {
        let of_source = |counts: &SourceCounts, source: &str| {
            let within = |KindRange { first, last }: &KindRange| {
                let kinds = counts.kinds.range((source.into(), first.clone())..=(source.into(), last.clone()));
                kinds.map(|((_, kind), span)| (kind.clone(), span.count)).collect::<KindCounts>()
            };
            ranges.iter().flat_map(within).collect::<KindCounts>()
        };
        let mut held: Vec<_> =
            self.read_views(|counts| sources.iter().map(|source| of_source(counts, source)).collect());
        held.resize_with(sources.len(), KindCounts::new);
        Ok(held)
    }

    async fn top(&self, range: Option<&WindowSplit>, limit: u32) -> Result<Vec<(String, i64)>, StoreError> {
        let mut sums: BTreeMap<Box<str>, i64> = BTreeMap::new();
        self.read_views(|counts| {
            let Some(range) = range else {
                for ((source, _), span) in &counts.kinds {
                    *sums.entry(source.clone()).or_insert(0) += span.count;
                }
                return;
            };
            let within = |window: &Window| range.windows.iter().any(|(from, to)| (from..to).contains(&window));
            for ((source, _), span) in counts.windows.iter().filter(|((_, window), _)| within(window)) {
                *sums.entry(source.clone()).or_insert(0) += span.count;
            }
            let within = |day: &Day| range.days.iter().any(|(from, to)| (from..to).contains(&day));
            for ((source, _), count) in counts.days.iter().filter(|((_, day), _)| within(day)) {
                *sums.entry(source.clone()).or_insert(0) += count;
            }
        });
        let mut sums: Vec<_> = sums.into_iter().map(|(source, count)| (source.into(), count)).collect();
        sums.sort_by(|a: &(String, i64), b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        sums.truncate(limit as usize);
        Ok(sums)
    }

    async fn windows(&self, source: &str, from: Window, to: Window) -> Result<BTreeMap<Window, Span>, StoreError> {
        Ok(self.read_views(|counts| of_source(&counts.windows, source, from, to).collect()))
    }

    async fn days(&self, source: &str, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError> {
        Ok(self.read_views(|counts| of_source(&counts.days, source, from, to).collect()))
    }

    async fn uniques(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        Ok(self.read_views(|counts| {
            let mut uniques = BTreeMap::new();
            for (minute, _) in counts.minutes.range((from, "".into())..(to.max(from), "".into())) {
                *uniques.entry(*minute).or_insert(0) += 1;
            }
            uniques
        }))
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
