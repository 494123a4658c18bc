//! Reading the views per source. Stores return segments; what is in them is found here, in the same way for every store.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ping_core::{Day, KindCounts, KindRange, Millis, Minute, Span, Window, WindowSplit};
use ping_segments::{
    Family, FormatError, Node, Ranking, SegmentQuery, StoredSegment, days_of, kind_counts, kind_counts_in, kinds_of,
    slices, sources_in, unique_sources, windows_of,
};

use super::store::StoreError;

/// Returns segments of the views, and totals over time.
#[async_trait]
pub trait SegmentReader: Send + Sync {
    /// Every event acknowledged before this time is in the views. 0 when there is no watermark yet.
    async fn as_of(&self) -> Result<Millis, StoreError>;

    /// The segments that `queries` select, from one consistent look at them. No two queries select the same one.
    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<StoredSegment>, StoreError>;

    /// As [`Self::segments`], for a query that selects many of them.
    async fn many_segments(&self, queries: &[SegmentQuery]) -> Result<Vec<StoredSegment>, StoreError>;

    /// The node of the deepest segment of a family; the root when it has none.
    async fn deepest(&self, family: Family) -> Result<Node, StoreError>;

    /// All events per minute, from the totals: exact at the time of the call.
    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// All events per day, from the totals: exact at the time of the call.
    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;
}

/// The statistics of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceSummary {
    /// Its events per kind.
    pub kinds: BTreeMap<Box<str>, Span>,
    /// Its events in the requested windows.
    pub recent: i64,
}

/// Reads the views. Each answer is consistent in itself, but for those about all sources: there each source is.
#[async_trait]
pub trait SourceReader: Send + Sync {
    /// Every event acknowledged before this time is in the views. Read it before the answer that it is to hold for. 0 when
    /// there is no watermark yet.
    async fn as_of(&self) -> Result<Millis, StoreError>;

    /// One source, with its events in the windows from `since` on; `None` when it has no events.
    async fn summary(&self, source: &str, since: Window) -> Result<Option<SourceSummary>, StoreError>;

    /// Per source, the number of events of each of its kinds that is in one of `ranges`. The sources are distinct.
    async fn kind_counts(&self, sources: &[Box<str>], ranges: &[KindRange]) -> Result<Vec<KindCounts>, StoreError>;

    /// The number of events of each kind in one of `ranges`, of each source of `node` that has any.
    async fn kind_counts_in(
        &self,
        node: Node,
        ranges: &[KindRange],
    ) -> Result<BTreeMap<Box<str>, KindCounts>, StoreError>;

    /// The sources with the most events, in a range or in total: the busiest first, equal ones by name.
    async fn top(&self, range: Option<&WindowSplit>, limit: u32) -> Result<Vec<(String, i64)>, StoreError>;

    /// The windows of a source from `from` to before `to`; empty windows are left out.
    async fn windows(&self, source: &str, from: Window, to: Window) -> Result<BTreeMap<Window, Span>, StoreError>;

    /// The days of a source from `from` to before `to`; empty days are left out.
    async fn days(&self, source: &str, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;

    /// The number of unique sources per minute, within the last hour.
    async fn uniques(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// About how many sources there are: as many as in one of the slices, times their number. `sample` selects the slice. Exact while there is
    /// only one, which has some ten thousand sources.
    async fn estimated_sources(&self, sample: usize) -> Result<i64, StoreError>;

    /// All events per minute, from the totals: exact at the time of the call.
    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// All events per day, from the totals: exact at the time of the call.
    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;
}

fn unreadable(error: FormatError) -> StoreError {
    StoreError(error.into())
}

/// The days that have the windows from `from` to before `to`.
fn days_with(from: Window, to: Window) -> (Day, Day) {
    (from.day(), Day(Window(to.0.saturating_sub(1)).day().0.saturating_add(1)))
}

#[async_trait]
impl<T: SegmentReader> SourceReader for T {
    async fn as_of(&self) -> Result<Millis, StoreError> {
        SegmentReader::as_of(self).await
    }

    async fn summary(&self, source: &str, since: Window) -> Result<Option<SourceSummary>, StoreError> {
        let (from, to) = days_with(since, Window(i64::MAX));
        let queries = [SegmentQuery::kinds([source]), SegmentQuery::windows(source, from, to)];
        let segments = self.segments(&queries).await?;
        let kinds = kinds_of(source, &segments).map_err(unreadable)?;
        let windows = windows_of(source, &segments).map_err(unreadable)?;
        let recent = windows.range(since..).map(|(_, span)| span.count).sum();
        Ok((!kinds.is_empty()).then_some(SourceSummary { kinds, recent }))
    }

    async fn kind_counts(&self, sources: &[Box<str>], ranges: &[KindRange]) -> Result<Vec<KindCounts>, StoreError> {
        let segments = self.segments(&[SegmentQuery::kinds(sources.iter().map(|source| &**source))]).await?;
        let wanted = |kind: &str| ranges.iter().any(|range| range.contains(kind));
        kind_counts(sources, wanted, &segments).map_err(unreadable)
    }

    async fn kind_counts_in(
        &self,
        node: Node,
        ranges: &[KindRange],
    ) -> Result<BTreeMap<Box<str>, KindCounts>, StoreError> {
        let segments = self.segments(&[SegmentQuery::all_kinds(node)]).await?;
        let wanted = |kind: &str| ranges.iter().any(|range| range.contains(kind));
        kind_counts_in(node, wanted, &segments).map_err(unreadable)
    }

    async fn top(&self, range: Option<&WindowSplit>, limit: u32) -> Result<Vec<(String, i64)>, StoreError> {
        let families = if range.is_some() { &[Family::Windows, Family::Days][..] } else { &[Family::Kinds] };
        let mut deepest = Node::ROOT;
        for family in families {
            deepest = deepest.max(self.deepest(*family).await?);
        }
        let windows = range.map_or(&[][..], |range| &range.windows);
        let mut ranking = Ranking::new(limit as usize);
        for slice in slices(deepest) {
            let queries: Vec<_> = match range {
                None => vec![SegmentQuery::all_kinds(slice)],
                Some(range) => {
                    let of_windows = range.windows.iter().map(|(from, to)| {
                        let (from, to) = days_with(*from, *to);
                        SegmentQuery::all_windows(slice, from, to)
                    });
                    of_windows
                        .chain(range.days.iter().map(|(from, to)| SegmentQuery::all_days(slice, *from, *to)))
                        .collect()
                }
            };
            let segments = self.many_segments(&queries).await?;
            ranking.add(slice, windows, &segments).map_err(unreadable)?;
        }
        Ok(ranking.finish())
    }

    async fn windows(&self, source: &str, from: Window, to: Window) -> Result<BTreeMap<Window, Span>, StoreError> {
        let (first, last) = days_with(from, to);
        let segments = self.segments(&[SegmentQuery::windows(source, first, last)]).await?;
        let mut windows = windows_of(source, &segments).map_err(unreadable)?;
        windows.retain(|window, _| (from..to).contains(window));
        Ok(windows)
    }

    async fn days(&self, source: &str, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError> {
        let segments = self.segments(&[SegmentQuery::days(source, from, to)]).await?;
        days_of(source, &segments).map_err(unreadable)
    }

    async fn uniques(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        let mut uniques = BTreeMap::new();
        for slice in slices(self.deepest(Family::Minutes).await?) {
            let segments = self.many_segments(&[SegmentQuery::all_minutes(slice, from, to)]).await?;
            for (minute, count) in unique_sources(slice, &segments).map_err(unreadable)? {
                *uniques.entry(minute).or_insert(0) += count;
            }
        }
        Ok(uniques)
    }

    async fn estimated_sources(&self, sample: usize) -> Result<i64, StoreError> {
        let slices: Vec<_> = slices(self.deepest(Family::Kinds).await?).collect();
        let slice = slices[sample % slices.len()];
        let segments = self.many_segments(&[SegmentQuery::all_kinds(slice)]).await?;
        let sources = sources_in(slice, &segments).map_err(unreadable)?;
        // There are at most 2^15 slices.
        Ok(sources.saturating_mul(slices.len() as i64))
    }

    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        SegmentReader::all_minutes(self, from, to).await
    }

    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError> {
        SegmentReader::all_days(self, from, to).await
    }
}
