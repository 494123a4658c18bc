//! Checks that the store has everything that was counted or read. An event is committed before it is published, so a store that lacks one
//! was restored to an earlier time, or the event is a phantom: no program that writes to the store published it.

use std::collections::{BTreeMap, BTreeSet};

use super::error::CountError;
use ping_core::{LastSeqs, Seq, WriterId, ahead_of_store};
use ping_ports::{Outbox, Record};

/// Fails if the store lacks one of `events`, the highest of each writer.
pub(super) async fn check_store(
    outbox: &dyn Outbox,
    events: impl IntoIterator<Item = (WriterId, Seq)>,
) -> Result<(), CountError> {
    let mut highest: BTreeMap<_, Seq> = BTreeMap::new();
    for (writer, seq) in events {
        let held = highest.entry(writer).or_insert(seq);
        *held = seq.max(*held);
    }
    let writers: Vec<_> = highest.keys().copied().collect();
    if writers.is_empty() {
        return Ok(());
    }
    let last_seqs = outbox.last_seqs(&writers).await?;
    ahead_of_store(highest, &last_seqs).map_or(Ok(()), |ahead| Err(CountError::AheadOfStore(ahead)))
}

/// The last sequence numbers that the store has of the writers of `records`.
pub(super) async fn last_seqs_of(outbox: &dyn Outbox, records: &[Record]) -> Result<LastSeqs, CountError> {
    let writers = records.iter().filter_map(|record| Some(record.body.as_ref().ok()?.writer));
    let writers: Vec<_> = writers.collect::<BTreeSet<_>>().into_iter().collect();
    Ok(outbox.last_seqs(&writers).await?)
}
