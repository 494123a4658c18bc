//! Where a segment lies: what it counts, of which time, and of which sources.

use std::hash::Hasher;

use fnv::FnvHasher;
use ping_core::{Day, Minute};

/// The deepest level of the tree: a million nodes.
const MAX_DEPTH: u32 = 20;
/// By how many levels a segment that became too large moves down: its sources are spread over eight nodes.
const STEP: u32 = 3;

/// What a segment counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Events per source and kind, with the first and the last time. Its only period is 0.
    Kinds,
    /// Events per source and window, with the first and the last time. A period is a day.
    Windows,
    /// Events per source. A period is a day.
    Days,
    /// The sources that have events. A period is a minute.
    Minutes,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kinds, Self::Windows, Self::Days, Self::Minutes];

    /// Its number in a store.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Kinds => 0,
            Self::Windows => 1,
            Self::Days => 2,
            Self::Minutes => 3,
        }
    }

    /// The family with this number.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.code() == code)
    }
}

/// A node of the tree: 1 is the root, `2 * n` and `2 * n + 1` are the children of `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub i32);

impl Node {
    /// The root: all sources.
    pub const ROOT: Self = Self(1);

    /// The node on the path of `source` at `depth`, which is at most 20.
    #[must_use]
    pub fn of(source: &str, depth: u32) -> Self {
        Self::at(hash(source), depth)
    }

    /// As [`of`](Self::of), and in which of `2^levels` equal parts of the node `source` is, from 0 on. There is at least one
    /// level.
    #[must_use]
    pub fn with_part(source: &str, depth: u32, levels: u32) -> (Self, usize) {
        let hash = hash(source);
        let node = Self::at(hash, depth);
        let part = (hash << node.depth()) >> (u32::BITS - levels);
        (node, part as usize)
    }

    pub(crate) fn at(hash: u32, depth: u32) -> Self {
        let depth = depth.min(MAX_DEPTH);
        let prefix = if depth == 0 { 0 } else { hash >> (u32::BITS - depth) };
        Self(((1 << depth) | prefix).cast_signed())
    }

    /// Its distance from the root.
    #[must_use]
    pub fn depth(self) -> u32 {
        self.0.max(1).ilog2()
    }

    /// The depth to which a segment at this node is split; `None` when it lies as deep as possible.
    pub(crate) fn split_depth(self) -> Option<u32> {
        let depth = self.depth();
        (depth < MAX_DEPTH).then(|| (depth + STEP).min(MAX_DEPTH))
    }

    /// The nodes that share sources with this one: those above it, itself, and those below it.
    pub(crate) fn related(self) -> Vec<NodeRange> {
        let depth = self.depth();
        let above = (0..depth).map(|up| NodeRange::one(Self(self.0 >> (depth - up))));
        let below = (0..=MAX_DEPTH - depth)
            .map(|down| NodeRange { first: Self(self.0 << down), last: Self((self.0 << down) + (1 << down) - 1) });
        above.chain(below).collect()
    }

    /// Whether `source` belongs to it.
    #[must_use]
    pub fn has(self, source: &str) -> bool {
        Self::of(source, self.depth()) == self
    }
}

/// Nodes from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRange {
    /// The first node.
    pub first: Node,
    /// The last node.
    pub last: Node,
}

impl NodeRange {
    fn one(node: Node) -> Self {
        Self { first: node, last: node }
    }
}

/// The depth at which `rows` rows are split into segments of about `per_segment` rows.
pub(crate) fn depth_for(rows: usize, per_segment: usize) -> u32 {
    rows.div_ceil(per_segment.max(1)).max(1).next_power_of_two().ilog2().min(MAX_DEPTH)
}

/// Where a source is in the tree. Part of the format: FNV-1a, then the finalizer of MurmurHash3, because the upper bits of FNV-1a hardly
/// depend on the last characters.
pub(crate) fn hash(source: &str) -> u32 {
    let mut hasher = FnvHasher::default();
    hasher.write(source.as_bytes());
    let mut hash = hasher.finish();
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    // Truncated: the upper half.
    ((hash ^ (hash >> 33)) >> 32) as u32
}

/// Where a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// What it counts.
    pub family: Family,
    /// Whose counts they are.
    pub node: Node,
    /// The day or minute of the events, since the epoch; 0 for kinds.
    pub period: i64,
}

/// A segment to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it lies.
    pub place: Place,
    /// How many counts it has.
    pub rows: usize,
    /// The sum of its counts, in events. Of [`Family::Minutes`]: its sources.
    pub events: i64,
    /// Its content, encoded.
    pub data: Vec<u8>,
}

/// A segment as a store returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    /// The number that the store gave it. Never used again.
    pub id: i64,
    /// Where it lies.
    pub place: Place,
    /// Its content, encoded.
    pub data: Vec<u8>,
}

/// Which segments to read. No segment is in two ranges of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentQuery {
    /// What they count.
    pub family: Family,
    /// Their periods, from the first to before the second.
    pub periods: (i64, i64),
    /// Their nodes.
    pub nodes: Vec<NodeRange>,
}

impl SegmentQuery {
    /// The kinds of `sources`.
    #[must_use]
    pub fn kinds<'a>(sources: impl IntoIterator<Item = &'a str>) -> Self {
        let mut nodes: Vec<_> = sources.into_iter().flat_map(path).collect();
        // Paths share nodes, and no segment may be read twice.
        nodes.sort_unstable_by_key(|nodes| nodes.first);
        nodes.dedup();
        Self { family: Family::Kinds, periods: (0, 1), nodes }
    }

    /// The windows of `source` in the days from `from` to before `to`.
    #[must_use]
    pub fn windows(source: &str, from: Day, to: Day) -> Self {
        Self { family: Family::Windows, periods: (from.0, to.0), nodes: path(source) }
    }

    /// The counts of `source` in the days from `from` to before `to`.
    #[must_use]
    pub fn days(source: &str, from: Day, to: Day) -> Self {
        Self { family: Family::Days, periods: (from.0, to.0), nodes: path(source) }
    }

    /// All kinds of the sources of `slice`.
    #[must_use]
    pub fn all_kinds(slice: Node) -> Self {
        Self { family: Family::Kinds, periods: (0, 1), nodes: slice.related() }
    }

    /// All windows of the sources of `slice` in the days from `from` to before `to`.
    #[must_use]
    pub fn all_windows(slice: Node, from: Day, to: Day) -> Self {
        Self { family: Family::Windows, periods: (from.0, to.0), nodes: slice.related() }
    }

    /// All counts of the sources of `slice` in the days from `from` to before `to`.
    #[must_use]
    pub fn all_days(slice: Node, from: Day, to: Day) -> Self {
        Self { family: Family::Days, periods: (from.0, to.0), nodes: slice.related() }
    }

    /// The sources of `slice` that have events in the minutes from `from` to before `to`.
    #[must_use]
    pub fn all_minutes(slice: Node, from: Minute, to: Minute) -> Self {
        Self { family: Family::Minutes, periods: (from.0, to.0), nodes: slice.related() }
    }

    /// Whether a segment at `place` is one of them.
    #[must_use]
    pub fn contains(&self, place: Place) -> bool {
        place.family == self.family
            && (self.periods.0..self.periods.1).contains(&place.period)
            && self.nodes.iter().any(|nodes| (nodes.first..=nodes.last).contains(&place.node))
    }
}

/// The nodes on the path of `source`, from the root.
fn path(source: &str) -> Vec<NodeRange> {
    let hash = hash(source);
    (0..=MAX_DEPTH).map(|depth| NodeRange::one(Node::at(hash, depth))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_from_the_root_to_the_deepest_node() {
        let path = path("example.com");
        assert_eq!((path.len(), path[0].first), (21, Node::ROOT));
        for pair in path.windows(2) {
            assert_eq!(pair[1].first.0 / 2, pair[0].first.0);
        }
        for (depth, range) in (0..).zip(&path) {
            assert!(range.first.depth() == depth && range.first.has("example.com"), "{range:?}");
        }
    }

    #[test]
    fn related_nodes_are_those_above_and_below() {
        let related = Node(5).related();
        let has = |node| related.iter().any(|range| (range.first..=range.last).contains(&Node(node)));
        assert!([1, 2, 5, 10, 11, 20, 23, 40].into_iter().all(has), "{related:?}");
        assert!(![3, 4, 6, 9, 12, 19, 24].into_iter().any(has), "{related:?}");
        assert_eq!(Node::ROOT.related().len(), 21);
    }

    #[test]
    fn sources_are_spread_evenly() {
        let mut counts = [0; 16];
        for number in 0..16_000 {
            counts[usize::try_from(Node::of(&format!("source-{number}"), 4).0 - 16).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    /// A store keeps segments for years: their places must not change.
    #[test]
    fn places_are_part_of_the_format() {
        let nodes = ["", "a", "example.com"].map(|source| Node::of(source, 20).0);
        assert_eq!(nodes, [2_030_849, 1_583_658, 1_661_213]);
    }

    #[test]
    fn few_rows_stay_together() {
        assert_eq!([0, 1, 512, 513, 100_000].map(|rows| depth_for(rows, 512)), [0, 0, 0, 1, 8]);
    }
}
