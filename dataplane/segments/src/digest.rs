//! Recognizing a segment that is no longer what was written.

use std::hash::Hasher;

use fnv::FnvHasher;

use super::place::{Place, Segment, StoredSegment};

/// A stored segment with what was stored beside it, to audit it without decoding it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedSegment {
    /// The segment.
    pub segment: StoredSegment,
    /// The sum of its counts.
    pub events: i64,
    /// Its digest when it was written.
    pub digest: i64,
}

impl AuditedSegment {
    /// Whether it is what was written.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.digest == digest(self.segment.place, self.events, &self.segment.data)
    }
}

impl Segment {
    /// A digest of its place, sum and content. A store keeps it beside the segment. It recognizes edits and damage, not someone who also
    /// computes a new digest.
    #[must_use]
    pub fn digest(&self) -> i64 {
        digest(self.place, self.events, &self.data)
    }
}

fn digest(place: Place, events: i64, data: &[u8]) -> i64 {
    let mut hasher = FnvHasher::default();
    hasher.write(&place.family.code().to_le_bytes());
    hasher.write(&place.node.0.to_le_bytes());
    hasher.write(&place.period.to_le_bytes());
    hasher.write(&events.to_le_bytes());
    hasher.write(data);
    hasher.finish().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Family, Node};

    #[test]
    fn every_change_is_recognized() {
        let place = Place { family: Family::Days, node: Node(5), period: 20_000 };
        let written = Segment { place, rows: 1, events: 7, data: vec![1, 2, 3] };
        let stored = |place, events, data| AuditedSegment {
            segment: StoredSegment { id: 1, place, data },
            events,
            digest: written.digest(),
        };
        assert!(stored(place, 7, vec![1, 2, 3]).is_intact());
        assert!(!stored(place, 8, vec![1, 2, 3]).is_intact());
        assert!(!stored(place, 7, vec![1, 2, 4]).is_intact());
        assert!(!stored(place, 7, vec![1, 2]).is_intact());
        assert!(!stored(Place { period: 20_001, ..place }, 7, vec![1, 2, 3]).is_intact());
        assert!(!stored(Place { node: Node(4), ..place }, 7, vec![1, 2, 3]).is_intact());
        assert!(!stored(Place { family: Family::Kinds, ..place }, 7, vec![1, 2, 3]).is_intact());
    }
}
