//! What a processor works with, and where its sessions start.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    error::CountError,
    metrics::CountMetrics,
    projection::Projection,
    settings::{CountSettings, LogPorts},
    store_check::{check_store, last_seqs_of},
};
use ping_core::{Generation, LastSeqs, Marks, Offset, Partition, Positions};
use ping_ports::{Bounds, Incarnation, Record};

/// Rebuilds before a session gives up. Two suffice unless other processors rebuild at the same time; then the pause between
/// sessions resolves the race.
const REBUILDS: u32 = 3;

/// What a processor works with.
pub(super) struct Context<P> {
    pub(super) projection: Arc<P>,
    pub(super) ports: LogPorts,
    pub(super) settings: CountSettings,
    pub(super) metrics: Arc<CountMetrics>,
}

/// Whether a session can continue from stored positions.
enum Resumption {
    /// It can.
    Possible,
    /// The log has deleted what comes next.
    Expired,
    /// The topic was created again: it ends before the positions, or something else lies before them.
    OtherLog,
    /// The store lacks events that were counted.
    StoreWentBack,
}

impl<P: Projection> Context<P> {
    /// The positions to read from, for the `assigned` partitions. Rebuilds the projection when it has no positions, when the log no
    /// longer holds them or is another one, or when the store has gone back behind them.
    pub(super) async fn resume(&self, assigned: &[Partition]) -> Result<Positions, CountError> {
        for _ in 0..REBUILDS {
            let positions = self.projection.positions().await?;
            if let Some(positions) = &positions {
                let next = |partition| positions.offsets.get(partition).copied().unwrap_or(0);
                let offsets: BTreeMap<_, _> = assigned.iter().map(|partition| (*partition, next(partition))).collect();
                let generation = &positions.generation;
                // Also of other processors: where nothing was read yet, another topic cannot be told from the same one.
                let all =
                    positions.offsets.iter().chain(&offsets).map(|(partition, next)| (*partition, *next)).collect();
                match self.resumption(positions, &all).await? {
                    Resumption::Possible => return Ok(Positions { offsets, ..positions.clone() }),
                    Resumption::Expired => {
                        tracing::warn!(
                            generation,
                            ?offsets,
                            "the log no longer holds the projection's positions: rebuilding it"
                        );
                    }
                    Resumption::OtherLog => {
                        self.metrics.log_recreations.inc();
                        tracing::error!(
                            generation,
                            ?offsets,
                            "the topic was created again: rebuilding what was derived from it"
                        );
                        self.projection.mark_suspect(generation).await?;
                        self.note_change(Incarnation::Log).await?;
                    }
                    Resumption::StoreWentBack => {
                        self.projection.mark_suspect(generation).await?;
                        self.note_change(Incarnation::Store).await?;
                    }
                }
            }
            self.rebuild(positions.map(|positions| positions.generation).as_ref()).await?;
        }
        Err(CountError::UnreadablePositions { assigned: assigned.to_vec(), rebuilds: REBUILDS })
    }

    async fn resumption(
        &self,
        positions: &Positions,
        next: &BTreeMap<Partition, Offset>,
    ) -> Result<Resumption, CountError> {
        if let Err(error) = check_store(&*self.ports.outbox, positions.marks.highest()).await {
            let CountError::AheadOfStore(ahead) = error else { return Err(error) };
            self.metrics.store_rollbacks.inc();
            let generation = &positions.generation;
            tracing::error!(%ahead, generation, "the store was restored to an earlier time: rebuilding what was derived from it");
            return Ok(Resumption::StoreWentBack);
        }
        let bounds = self.ports.bounds.bounds().await?;
        let of = |partition| bounds.get(partition).copied().unwrap_or(Bounds { low: 0, end: 0 });
        if next.iter().any(|(partition, next)| *next > of(partition).end) {
            return Ok(Resumption::OtherLog);
        }
        if next.iter().any(|(partition, next)| *next < of(partition).low) {
            return Ok(Resumption::Expired);
        }
        let before = next.iter().filter(|(partition, next)| **next > of(partition).low);
        let before: BTreeMap<_, _> = before.map(|(partition, next)| (*partition, next - 1)).collect();
        if before.is_empty() {
            return Ok(Resumption::Possible);
        }
        let records = self.ports.bounds.records_at(&before).await?;
        let last_seqs = last_seqs_of(&*self.ports.outbox, &records).await?;
        let other = records.iter().any(|record| was_never_read(record, &positions.marks, &last_seqs));
        Ok(if other { Resumption::OtherLog } else { Resumption::Possible })
    }

    /// Notes a change before the rebuild that hides it.
    async fn note_change(&self, of: Incarnation) -> Result<(), CountError> {
        let LogPorts { incarnations, clock, .. } = &self.ports;
        Ok(incarnations.note_change(of, 0, clock.now()).await?)
    }

    /// Rebuilds the projection, unless another processor has replaced the generation `seen`.
    pub(super) async fn rebuild(&self, seen: Option<&Generation>) -> Result<(), CountError> {
        if self.projection.rebuild(seen).await? {
            self.metrics.rebuilds.inc();
        }
        Ok(())
    }
}

/// Whether `record`, which lies before the positions of `marks`, cannot have been read: its event is in the store, and was not counted. Marks
/// of compacted writers are deleted, so their records prove nothing.
fn was_never_read(record: &Record, marks: &Marks, last_seqs: &LastSeqs) -> bool {
    let Ok(event) = &record.body else { return false };
    let stored = last_seqs.live.get(&event.writer).is_some_and(|last_seq| event.seq <= *last_seq);
    stored && event.seq > marks.get(event.writer, record.partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ping_core::WriterId;
    use ping_ports::{LogEvent, Malformed};
    use uuid::Uuid;

    fn record(writer: i64, seq: i64) -> Record {
        let (source, kind) = ("".into(), "".into());
        let event = LogEvent { id: Uuid::nil(), writer: WriterId(writer), seq, timestamp_ms: 0, source, kind };
        Record { partition: 0, offset: 9, trace: None, body: Ok(event) }
    }

    #[test]
    fn a_stored_event_before_the_positions_that_was_not_counted_is_of_another_log() {
        let mut marks = Marks::default();
        marks.advance(WriterId(1), 0, 5);
        marks.advance(WriterId(2), 1, 5);
        let live = [(WriterId(1), 8), (WriterId(2), 8), (WriterId(3), 8)].into();
        let last_seqs = LastSeqs { live, compacted: [(WriterId(4), 8)].into() };
        let never_read = |writer, seq| was_never_read(&record(writer, seq), &marks, &last_seqs);
        assert!(!never_read(1, 5), "counted");
        assert!(never_read(1, 6) && never_read(2, 5) && never_read(3, 1));
        assert!(!never_read(1, 9) && !never_read(5, 1), "phantoms");
        assert!(!never_read(4, 1), "its mark was forgotten");
        let malformed = Record { body: Err((Malformed::Foreign, vec![])), ..record(3, 1) };
        assert!(!was_never_read(&malformed, &marks, &last_seqs));
    }
}
