//! The slices in which rows for SQL are exported.

use super::place::Node;

/// Levels of the tree that the first slice has at most below its node: a few thousand rows, because checkpoints wait until they are written.
const LEVELS: u32 = 2;

/// The slices of all sources, one after the other. They become larger while exporting one takes little time: most have no rows if the
/// exported windows or the exported day have far fewer sources than others.
#[derive(Clone, Copy, Debug)]
pub struct ExportSlices {
    depth: u32,
    exported: i64,
}

impl ExportSlices {
    /// Continues after the sources with a hash below `exported`, if the deepest segment lies at `deepest`.
    #[must_use]
    pub fn new(deepest: Node, exported: i64) -> Self {
        Self { depth: deepest.depth().saturating_sub(LEVELS), exported }
    }

    /// The slice to export next; `None` after the last one.
    #[must_use]
    pub fn current(self) -> Option<Node> {
        // A hash has 32 bits.
        let hash = u32::try_from(self.exported).ok()?;
        Some(Node::at(hash, self.depth))
    }

    /// Moves to the next slice. After one that took little time, the next is twice as large, if the tree has such a node there.
    pub fn advance(&mut self, took_little_time: bool) {
        let Some(node) = self.current() else { return };
        let number = i64::from(node.0) - (1 << self.depth);
        self.exported = (number + 1) << (u32::BITS - self.depth);
        if took_little_time && number % 2 == 1 {
            self.depth -= 1;
        }
    }

    /// Sources with a lower hash are exported.
    #[must_use]
    pub fn exported(self) -> i64 {
        self.exported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH_END: i64 = 1 << u32::BITS;

    /// The slices, with the hashes that each one ends before.
    fn walk(deepest: Node, exported: i64, take_little_time: bool) -> Vec<(Node, i64)> {
        let (mut slices, mut found) = (ExportSlices::new(deepest, exported), Vec::new());
        while let Some(slice) = slices.current() {
            slices.advance(take_little_time);
            found.push((slice, slices.exported()));
        }
        found
    }

    #[test]
    fn slices_have_each_source_once() {
        let quarter = HASH_END / 4;
        let slices = [4, 5, 6, 7].map(Node).into_iter().zip((1..).map(|number| number * quarter));
        assert_eq!(walk(Node(16), 0, false), slices.collect::<Vec<_>>());
        assert_eq!(walk(Node(16), 2 * quarter, false), [(Node(6), 3 * quarter), (Node(7), HASH_END)]);
        assert_eq!(walk(Node::ROOT, 0, false), [(Node::ROOT, HASH_END)]);
        assert_eq!(walk(Node::ROOT, HASH_END, false), []);
    }

    #[test]
    fn slices_without_rows_become_larger() {
        let deepest = Node(1 << 20);
        assert_eq!(walk(deepest, 0, false).len(), 1 << 18);
        let few = walk(deepest, 0, true);
        assert_eq!(few.len(), 19);
        assert!(few.is_sorted_by_key(|(_, end)| *end), "{few:?}");
        assert_eq!(few.last(), Some(&(Node(3), HASH_END)));
        // From a place where the tree has no large node.
        assert!(walk(deepest, (1 << 30) + (1 << 14), true).len() < 40);
    }
}
