//! What events change, collected until the next checkpoint.

use std::collections::{BTreeMap, HashMap};

use ping_core::{Day, Millis, Minute, RetentionCutoffs, Span, Window};

use super::{
    codec::Encoder,
    error::FormatError,
    place::{Family, Node, Place, Segment, depth_for, hash},
    row::{Row, sum},
};

/// Events per segment of a checkpoint.
const EVENTS_PER_SEGMENT: usize = 512;

/// An event, without its names.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the name of the source starts in `names`.
    source: usize,
    length: u32,
    kind: u32,
    timestamp_ms: Millis,
}

/// Events that are not in a checkpoint yet. Adding one costs a copy of its source; they are sorted and summed when the checkpoint is made.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    names: String,
    kinds: HashMap<Box<str>, u32>,
    /// The memory of the kinds, in bytes.
    kind_bytes: usize,
    entries: Vec<Entry>,
}

/// The segment that is being filled, of one family and period.
struct Open<'a> {
    depth: u32,
    node: Node,
    rows: Vec<Row<'a>>,
}

impl Changes {
    /// Adds one event that happened at `timestamp_ms`. False when it has no source: such events are not attributed.
    pub fn add(&mut self, source: &str, kind: &str, timestamp_ms: Millis) -> bool {
        if source.is_empty() {
            return false;
        }
        let known = self.kinds.get(kind).copied();
        let kind = known.unwrap_or_else(|| {
            // As many as there are entries at most, which the memory bounds.
            let number = self.kinds.len() as u32;
            self.kinds.insert(kind.into(), number);
            self.kind_bytes += kind.len() + size_of::<(Box<str>, u32)>();
            number
        });
        // A source has at most 255 bytes.
        let (start, length) = (self.names.len(), source.len() as u32);
        self.names.push_str(source);
        self.entries.push(Entry { source: start, length, kind, timestamp_ms });
        true
    }

    /// The memory that they occupy, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.names.len() + self.entries.len() * size_of::<Entry>() + self.kind_bytes
    }

    /// The source and the number of the kind of each event, in the order in which they were added. [`Self::kinds`] has the kinds.
    pub fn events(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.entries.iter().map(|entry| (self.source(entry), entry.kind as usize))
    }

    /// The kinds by their number.
    #[must_use]
    pub fn kinds(&self) -> Vec<&str> {
        let mut kinds = vec![""; self.kinds.len()];
        for (kind, number) in &self.kinds {
            kinds[*number as usize] = kind;
        }
        kinds
    }

    fn source(&self, entry: &Entry) -> &str {
        &self.names[entry.source..][..entry.length as usize]
    }

    /// The segments of a checkpoint, without what is older than `cutoffs`. The first item sorts the events, which takes tens of milliseconds
    /// for 100,000; the others take well below a millisecond each.
    pub fn segments(&self, cutoffs: RetentionCutoffs) -> impl Iterator<Item = Result<Segment, FormatError>> {
        Segments::new(self, cutoffs)
    }
}

/// Makes segments, in the order of the hashes of their sources.
struct Segments<'a> {
    changes: &'a Changes,
    kinds: Vec<&'a str>,
    cutoffs: RetentionCutoffs,
    /// Hash and place of each event; sorted, and the next one last. `None` before the first item.
    order: Option<Vec<(u32, u32)>>,
    open: BTreeMap<(Family, i64), Open<'a>>,
    /// Segments that are complete, in memory only.
    full: Vec<(Place, Vec<Row<'a>>)>,
    encoder: Option<Encoder>,
}

impl<'a> Segments<'a> {
    fn new(changes: &'a Changes, cutoffs: RetentionCutoffs) -> Self {
        let kinds = changes.kinds();
        Self { changes, kinds, cutoffs, order: None, open: BTreeMap::new(), full: Vec::new(), encoder: None }
    }

    /// Where `entry` counts, with its row there.
    fn rows(&self, entry: &Entry) -> impl Iterator<Item = ((Family, i64), Row<'a>)> + use<'a> {
        let (at, source) = (entry.timestamp_ms, self.changes.source(entry));
        let (window, day, minute) = (Window::of(at), Day::of(at), Minute::of(at));
        let cutoffs = self.cutoffs;
        let row = Row { source, kind: "", window: 0, span: Span::of(at) };
        let once = Row { span: Span { count: 1, first: 0, last: 0 }, ..row };
        let kinds = Some(((Family::Kinds, 0), Row { kind: self.kinds[entry.kind as usize], ..row }));
        let windows = (day >= cutoffs.windows).then_some(((Family::Windows, day.0), Row { window: window.0, ..row }));
        let days = (day >= cutoffs.days).then_some(((Family::Days, day.0), once));
        let minutes = cutoffs.minutes.is_some_and(|first| minute >= first);
        let minutes = minutes.then_some(((Family::Minutes, minute.0), once));
        [kinds, windows, days, minutes].into_iter().flatten()
    }

    /// Sorts the events, and finds out how deep the segments of each family and period lie.
    fn start(&mut self) -> Vec<(u32, u32)> {
        let mut counts: BTreeMap<(Family, i64), usize> = BTreeMap::new();
        let mut order = Vec::with_capacity(self.changes.entries.len());
        for (place, entry) in (0..).zip(&self.changes.entries) {
            order.push((hash(self.changes.source(entry)), place));
            for (part, _) in self.rows(entry) {
                *counts.entry(part).or_insert(0) += 1;
            }
        }
        order.sort_unstable_by(|a, b| b.cmp(a));
        for (part, rows) in counts {
            let depth = depth_for(rows, EVENTS_PER_SEGMENT);
            self.open.insert(part, Open { depth, node: Node::ROOT, rows: Vec::new() });
        }
        order
    }

    /// Adds the next event to its segments. False when there is none.
    fn advance(&mut self) -> bool {
        let Some((hash, place)) = self.order.as_mut().and_then(Vec::pop) else { return false };
        let entry = self.changes.entries[place as usize];
        for ((family, period), row) in self.rows(&entry) {
            let Some(open) = self.open.get_mut(&(family, period)) else { continue };
            let node = Node::at(hash, open.depth);
            if node != open.node && !open.rows.is_empty() {
                let place = Place { family, node: open.node, period };
                self.full.push((place, std::mem::take(&mut open.rows)));
            }
            open.node = node;
            open.rows.push(row);
        }
        true
    }

    fn encode(&mut self, place: Place, mut rows: Vec<Row<'a>>) -> Result<Segment, FormatError> {
        sum(&mut rows, place.family);
        let mut encoder = self.encoder.take().map_or_else(Encoder::new, Ok)?;
        let segment = encoder.encode(place, &rows);
        self.encoder = Some(encoder);
        segment
    }
}

impl Iterator for Segments<'_> {
    type Item = Result<Segment, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.order.is_none() {
            self.order = Some(self.start());
        }
        loop {
            if let Some((place, rows)) = self.full.pop() {
                return Some(self.encode(place, rows));
            }
            if !self.advance() {
                let ((family, period), Open { node, rows, .. }) = self.open.pop_first()?;
                if !rows.is_empty() {
                    self.full.push((Place { family, node, period }, rows));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
