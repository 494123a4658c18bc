//! The content of a segment while it is in memory: rows that are sorted and summed.

use ping_core::Span;

use super::place::Family;

/// One count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) source: &'a str,
    /// Of [`Family::Kinds`] only; empty otherwise.
    pub(crate) kind: &'a str,
    /// The window, of [`Family::Windows`] only; 0 otherwise.
    pub(crate) window: i64,
    /// The times are 0 unless the family has them. Of [`Family::Minutes`] the count is 1.
    pub(crate) span: Span,
}

impl<'a> Row<'a> {
    fn key(&self) -> (&'a str, &'a str, i64) {
        (self.source, self.kind, self.window)
    }
}

/// Sorts `rows`, and sums those with the same key.
pub(crate) fn sum(rows: &mut Vec<Row<'_>>, family: Family) {
    // Stable, because it merges sorted runs without comparing each row with all others.
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    rows.dedup_by(|next, held| {
        let same = next.key() == held.key();
        // A source is in a minute or not, however often it is mentioned.
        if same && family != Family::Minutes {
            held.span = held.span.merge(next.span);
        }
        same
    });
}
