//! What a reader finds in segments.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
};

use ping_core::{Day, KindCounts, Minute, SourceCounts, Span, Window};

use super::{
    codec::decode,
    error::FormatError,
    place::{Family, Node, Place, StoredSegment, hash},
    row::Row,
};

/// Levels of the tree that a slice has at most below its node: some ten thousand counts, which take a few milliseconds to read.
const SLICE_LEVELS: u32 = 5;

/// Calls `each` with every row.
fn for_each(segments: &[StoredSegment], mut each: impl FnMut(&StoredSegment, Row<'_>)) -> Result<(), FormatError> {
    for segment in segments {
        decode(segment.place, &segment.data)?.rows().for_each(|row| each(segment, row));
    }
    Ok(())
}

/// Which windows and days have rows for SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCoverage {
    /// Windows before this one have rows of all sources.
    pub windows_until: Window,
    /// Windows from `windows_until` to before this one are being exported.
    pub export_until: Window,
    /// Those have rows of the sources with a lower hash.
    pub exported: i64,
    /// Days before this one have rows of all sources. The others are counted in their windows.
    pub days_from: Day,
    /// This day has rows of the sources with a lower hash.
    pub closed: i64,
}

impl RowCoverage {
    /// No window from here on has a row.
    #[must_use]
    pub fn windows_end(self) -> Window {
        self.windows_until.max(self.export_until)
    }

    /// Whether `window` of `source` has a row.
    #[must_use]
    pub fn has_window(self, source: &str, window: Window) -> bool {
        window < self.windows_until || window < self.export_until && i64::from(hash(source)) < self.exported
    }

    /// Whether `day` of `source` has a row.
    #[must_use]
    pub fn has_day(self, source: &str, day: Day) -> bool {
        day < self.days_from || day == self.days_from && i64::from(hash(source)) < self.closed
    }
}

/// The rows of the windows before `end` that `wanted` accepts, by source and window.
///
/// # Errors
/// When the bytes are not segments.
pub fn window_rows<'a>(
    segments: impl IntoIterator<Item = (Place, &'a [u8])>,
    end: Window,
    wanted: impl Fn(&str, Window) -> bool,
) -> Result<Vec<(Box<str>, Window, Span)>, FormatError> {
    let mut rows: BTreeMap<(Box<str>, Window), Span> = BTreeMap::new();
    for (place, data) in segments {
        if place.family != Family::Windows || Day(place.period) > end.day() {
            continue;
        }
        for row in
            decode(place, data)?.rows().filter(|row| row.window < end.0 && wanted(row.source, Window(row.window)))
        {
            let merge = |held: &mut Span| *held = held.merge(row.span);
            rows.entry((row.source.into(), Window(row.window))).and_modify(merge).or_insert(row.span);
        }
    }
    Ok(rows.into_iter().map(|((source, window), span)| (source, window, span)).collect())
}

/// The rows of the days that `wanted` accepts, by source and day.
///
/// # Errors
/// When the bytes are not segments.
pub fn day_rows<'a>(
    segments: impl IntoIterator<Item = (Place, &'a [u8])>,
    wanted: impl Fn(&str, Day) -> bool,
) -> Result<Vec<(Box<str>, Day, i64)>, FormatError> {
    let mut rows: BTreeMap<(Box<str>, Day), i64> = BTreeMap::new();
    for (place, data) in segments.into_iter().filter(|(place, _)| place.family == Family::Days) {
        let day = Day(place.period);
        for row in decode(place, data)?.rows().filter(|row| wanted(row.source, day)) {
            *rows.entry((row.source.into(), day)).or_insert(0) += row.span.count;
        }
    }
    Ok(rows.into_iter().map(|((source, day), count)| (source, day, count)).collect())
}

/// The kinds of `source`.
///
/// # Errors
/// When the bytes are not segments.
pub fn kinds_of(source: &str, segments: &[StoredSegment]) -> Result<BTreeMap<Box<str>, Span>, FormatError> {
    let mut kinds: BTreeMap<Box<str>, Span> = BTreeMap::new();
    for_each(segments, |segment, row| {
        if segment.place.family == Family::Kinds && row.source == source {
            let merge = |held: &mut Span| *held = held.merge(row.span);
            kinds.entry(row.kind.into()).and_modify(merge).or_insert(row.span);
        }
    })?;
    Ok(kinds)
}

/// The windows of `source`.
///
/// # Errors
/// When the bytes are not segments.
pub fn windows_of(source: &str, segments: &[StoredSegment]) -> Result<BTreeMap<Window, Span>, FormatError> {
    let mut windows: BTreeMap<Window, Span> = BTreeMap::new();
    for_each(segments, |segment, row| {
        if segment.place.family == Family::Windows && row.source == source {
            let merge = |held: &mut Span| *held = held.merge(row.span);
            windows.entry(Window(row.window)).and_modify(merge).or_insert(row.span);
        }
    })?;
    Ok(windows)
}

/// The days of `source`.
///
/// # Errors
/// When the bytes are not segments.
pub fn days_of(source: &str, segments: &[StoredSegment]) -> Result<BTreeMap<Day, i64>, FormatError> {
    let mut days = BTreeMap::new();
    for_each(segments, |segment, row| {
        if segment.place.family == Family::Days && row.source == source {
            *days.entry(Day(segment.place.period)).or_insert(0) += row.span.count;
        }
    })?;
    Ok(days)
}

/// The slices in which to read all sources, one after the other, if the deepest segment lies at `deepest`.
pub fn slices(deepest: Node) -> impl Iterator<Item = Node> {
    let depth = deepest.depth().saturating_sub(SLICE_LEVELS);
    (1 << depth..2 << depth).map(Node)
}

/// The unique sources per minute of one slice.
///
/// # Errors
/// When the bytes are not segments.
pub fn unique_sources(slice: Node, segments: &[StoredSegment]) -> Result<BTreeMap<Minute, i64>, FormatError> {
    let mut sources: BTreeMap<Minute, HashSet<Box<str>>> = BTreeMap::new();
    for_each(segments, |segment, row| {
        if segment.place.family == Family::Minutes && slice.has(row.source) {
            let of_minute = sources.entry(Minute(segment.place.period)).or_default();
            if !of_minute.contains(row.source) {
                of_minute.insert(row.source.into());
            }
        }
    })?;
    // As many as fit into memory at most.
    Ok(sources.into_iter().map(|(minute, sources)| (minute, sources.len() as i64)).collect())
}

/// The number of sources of one slice.
///
/// # Errors
/// When the bytes are not segments.
pub fn sources_in(slice: Node, segments: &[StoredSegment]) -> Result<i64, FormatError> {
    let mut sources: HashSet<Box<str>> = HashSet::new();
    for_each(segments, |_, row| {
        if slice.has(row.source) && !sources.contains(row.source) {
            sources.insert(row.source.into());
        }
    })?;
    // As many as fit into memory at most.
    Ok(sources.len() as i64)
}

/// The sources with the most events, found slice by slice.
#[derive(Debug)]
pub struct Ranking {
    limit: usize,
    /// The lowest of those found so far is on top.
    found: BinaryHeap<Reverse<(i64, Reverse<Box<str>>)>>,
}

impl Ranking {
    /// For `limit` sources.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, found: BinaryHeap::new() }
    }

    /// Adds the sources of one slice. Windows count if they are in one of `windows`, each from the first to before the second.
    ///
    /// # Errors
    /// When the bytes are not segments.
    pub fn add(
        &mut self,
        slice: Node,
        windows: &[(Window, Window)],
        segments: &[StoredSegment],
    ) -> Result<(), FormatError> {
        let mut sums: HashMap<Box<str>, i64> = HashMap::new();
        for_each(segments, |segment, row| {
            let within = |(from, to): &(Window, Window)| (from.0..to.0).contains(&row.window);
            let counts = segment.place.family != Family::Windows || windows.iter().any(within);
            if !counts || !slice.has(row.source) {
                return;
            }
            match sums.get_mut(row.source) {
                Some(sum) => *sum += row.span.count,
                None => drop(sums.insert(row.source.into(), row.span.count)),
            }
        })?;
        for (source, count) in sums {
            self.found.push(Reverse((count, Reverse(source))));
            if self.found.len() > self.limit {
                self.found.pop();
            }
        }
        Ok(())
    }

    /// The busiest first, equal ones by name.
    #[must_use]
    pub fn finish(self) -> Vec<(String, i64)> {
        let sorted = self.found.into_sorted_vec().into_iter();
        sorted.map(|Reverse((count, Reverse(source)))| (source.into(), count)).collect()
    }
}

/// The sources and kinds in some segments.
#[derive(Debug)]
pub struct NamesInViews(HashMap<Box<str>, HashSet<Box<str>>>);

impl NamesInViews {
    /// Those in `segments`.
    ///
    /// # Errors
    /// When the bytes are not segments.
    pub fn new(segments: &[StoredSegment]) -> Result<Self, FormatError> {
        let mut names: HashMap<Box<str>, HashSet<Box<str>>> = HashMap::new();
        for_each(segments, |segment, row| {
            if segment.place.family == Family::Kinds {
                names.entry(row.source.into()).or_default().insert(row.kind.into());
            }
        })?;
        Ok(Self(names))
    }

    /// Whether they have `source`, and this `kind` of it.
    #[must_use]
    pub fn contains(&self, source: &str, kind: Option<&str>) -> bool {
        self.0.get(source).is_some_and(|kinds| kind.is_none_or(|kind| kinds.contains(kind)))
    }
}

/// Everything in `segments`, to compare.
///
/// # Errors
/// When the bytes are not segments.
pub fn counts(segments: &[StoredSegment]) -> Result<SourceCounts, FormatError> {
    let mut counts = SourceCounts::default();
    for_each(segments, |segment, row| {
        let (source, period) = (Box::from(row.source), segment.place.period);
        let merge = |held: &mut Span| *held = held.merge(row.span);
        match segment.place.family {
            Family::Kinds => {
                counts.kinds.entry((source, row.kind.into())).and_modify(merge).or_insert(row.span);
            }
            Family::Windows => {
                counts.windows.entry((source, Window(row.window))).and_modify(merge).or_insert(row.span);
            }
            Family::Days => *counts.days.entry((source, Day(period))).or_insert(0) += row.span.count,
            Family::Minutes => {
                counts.minutes.insert((Minute(period), source));
            }
        }
    })?;
    Ok(counts)
}

/// The counts per kind of each of `sources`, which are distinct, of the kinds that `wanted` accepts.
///
/// # Errors
/// When the bytes are not segments.
pub fn kind_counts(
    sources: &[Box<str>],
    wanted: impl Fn(&str) -> bool,
    segments: &[StoredSegment],
) -> Result<Vec<KindCounts>, FormatError> {
    let places: HashMap<&str, usize> = sources.iter().enumerate().map(|(place, source)| (&**source, place)).collect();
    let mut counts = vec![KindCounts::new(); sources.len()];
    for_each(segments, |segment, row| {
        let Some(place) = places.get(row.source).filter(|_| segment.place.family == Family::Kinds) else { return };
        if wanted(row.kind) {
            *counts[*place].entry(row.kind.into()).or_insert(0) += row.span.count;
        }
    })?;
    Ok(counts)
}

/// The counts per kind of each source of `node`, of the kinds that `wanted` accepts.
///
/// # Errors
/// When the bytes are not segments.
pub fn kind_counts_in(
    node: Node,
    wanted: impl Fn(&str) -> bool,
    segments: &[StoredSegment],
) -> Result<BTreeMap<Box<str>, KindCounts>, FormatError> {
    let mut sources: BTreeMap<Box<str>, KindCounts> = BTreeMap::new();
    for_each(segments, |segment, row| {
        if segment.place.family == Family::Kinds && wanted(row.kind) && node.has(row.source) {
            *sources.entry(row.source.into()).or_default().entry(row.kind.into()).or_insert(0) += row.span.count;
        }
    })?;
    Ok(sources)
}
