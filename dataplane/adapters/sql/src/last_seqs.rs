//! The last sequence numbers of writers.

use ping_core::{LastSeqs, Seq, WriterId};

/// The last numbers from rows of a writer's id, its last number, and whether it was compacted.
#[must_use]
pub fn last_seqs(rows: impl IntoIterator<Item = (i64, Seq, bool)>) -> LastSeqs {
    let mut found = LastSeqs::default();
    for (id, last_seq, is_compacted) in rows {
        let writers = if is_compacted { &mut found.compacted } else { &mut found.live };
        writers.insert(WriterId(id), last_seq);
    }
    found
}
