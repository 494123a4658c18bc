//! What was read since the last flush: sums, which merge in any order, and the positions that say which records they include.
//! Pure.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use super::projection::Sums;
use ping_core::{LastSeqs, Offset, Partition, Positions, Seq, WriterId};
use ping_ports::{Advance, DeadContent, DeadLetter, Record, TraceLinks};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordOutcome {
    /// It was new.
    Counted,
    /// It was counted before.
    Duplicate,
    /// It cannot be counted.
    Dead,
    /// The store does not have its event.
    Phantom,
    /// It lies before the position that is read from.
    Skipped,
}

/// Sums that are not flushed yet, and the positions they start and end at.
#[derive(Debug, Default)]
pub(super) struct Delta<T> {
    from: BTreeMap<Partition, Offset>,
    to: BTreeMap<Partition, Offset>,
    marks: HashMap<(WriterId, Partition), Seq>,
    sums: T,
    records: usize,
    dead: Vec<DeadLetter>,
    /// The spans that published its records.
    traces: TraceLinks,
}

impl<T: Sums> Delta<T> {
    /// Adds `record`, unless it was counted before according to `positions`, which say what was read, flushed or not, or the store does
    /// not have it according to `last_seqs`.
    pub(super) fn take(
        &mut self,
        record: Record,
        positions: &mut Positions,
        last_seqs: Option<&LastSeqs>,
    ) -> RecordOutcome {
        let Record { partition, offset, trace, body } = record;
        let next = positions.offsets.entry(partition).or_insert(0);
        if offset < *next {
            return RecordOutcome::Skipped;
        }
        if !self.to.contains_key(&partition) {
            self.from.insert(partition, *next);
        }
        *next = offset + 1;
        self.to.insert(partition, offset + 1);
        self.records += 1;
        let event = match body {
            Ok(event) => event,
            Err((reason, value)) => {
                let content = DeadContent::Malformed(reason, value);
                self.dead.push(DeadLetter { partition, offset, content });
                return RecordOutcome::Dead;
            }
        };
        if last_seqs.is_some_and(|known| event.seq > known.get(event.writer)) {
            self.dead.push(DeadLetter { partition, offset, content: DeadContent::Phantom(event) });
            return RecordOutcome::Phantom;
        }
        if !positions.marks.advance(event.writer, partition, event.seq) {
            return RecordOutcome::Duplicate;
        }
        self.marks.insert((event.writer, partition), event.seq);
        if let Some(trace) = &trace {
            self.traces.add(trace);
        }
        self.sums.add(&event);
        RecordOutcome::Counted
    }

    /// How many records it includes.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// The memory that its sums occupy, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.sums.bytes()
    }

    /// Removes the records that cannot be counted. Their positions stay.
    pub(super) fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        mem::take(&mut self.dead)
    }

    /// The spans that published the records it counted.
    pub(super) fn traces(&self) -> &TraceLinks {
        &self.traces
    }

    /// What to apply, without a watermark.
    pub(super) fn finish(self, generation: &str) -> (Advance, T) {
        let advance = Advance {
            generation: generation.to_owned(),
            from: self.from,
            to: self.to,
            marks: self.marks.into_iter().collect(),
            as_of: None,
            partitions: 0,
        };
        (advance, self.sums)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::counters::EventCounts;
    use ping_core::{Marks, Minute};
    use ping_ports::{LogEvent, Malformed, TraceContext};
    use uuid::Uuid;

    fn positions() -> Positions {
        Positions { generation: "g".into(), offsets: BTreeMap::new(), marks: Marks::default() }
    }

    fn record(partition: i32, offset: i64, seq: i64, minute: i64) -> Record {
        let writer = WriterId(i64::from(partition) + 1);
        let event = LogEvent {
            id: Uuid::nil(),
            writer,
            seq,
            timestamp_ms: minute * 60_000,
            source: "".into(),
            kind: "".into(),
        };
        Record { partition, offset, trace: None, body: Ok(event) }
    }

    /// Counts `records`, flushing wherever `cuts` say so, and merges the flushes.
    fn count(records: &[Record], cuts: &[bool]) -> (i64, BTreeMap<Minute, i64>) {
        let (mut positions, mut total, mut minutes) = (positions(), 0, BTreeMap::new());
        let mut delta = Delta::default();
        let mut flush = |delta: Delta<EventCounts>| {
            let (_, counts) = delta.finish("g");
            total += counts.total;
            for (minute, count) in counts.minutes {
                *minutes.entry(minute).or_insert(0) += count;
            }
        };
        for (record, cut) in records.iter().zip(cuts.iter().cycle()) {
            delta.take(record.clone(), &mut positions, None);
            if *cut {
                flush(mem::take(&mut delta));
            }
        }
        flush(delta);
        (total, minutes)
    }

    proptest! {
        #[test]
        fn counters_do_not_depend_on_interleaving_or_flush_boundaries(
            seed in proptest::collection::vec((0i32..3, 0i64..5), 1..60),
            cuts in proptest::collection::vec(any::<bool>(), 1..10),
        ) {
            let mut next = [0i64; 3];
            let arrival: Vec<_> = seed.iter().map(|(partition, minute)| {
                let offset = &mut next[*partition as usize];
                *offset += 1;
                record(*partition, *offset - 1, *offset, *minute)
            }).collect();
            let mut sorted = arrival.clone();
            sorted.sort_by_key(|record| (record.partition, record.offset));
            prop_assert_eq!(count(&arrival, &cuts), count(&sorted, &[false]));
        }
    }

    #[test]
    fn a_replayed_record_moves_the_position_and_nothing_else() {
        let (mut positions, mut delta) = (positions(), Delta::<EventCounts>::default());
        assert_eq!(delta.take(record(0, 0, 1, 7), &mut positions, None), RecordOutcome::Counted);
        assert_eq!(delta.take(record(0, 1, 1, 7), &mut positions, None), RecordOutcome::Duplicate);
        assert_eq!(delta.take(record(0, 1, 2, 7), &mut positions, None), RecordOutcome::Skipped);
        let (advance, counts) = delta.finish("g");
        assert_eq!((counts.total, advance.from[&0], advance.to[&0]), (1, 0, 2));
    }

    #[test]
    fn an_event_that_the_store_does_not_have_is_set_aside() {
        let (mut positions, mut delta) = (positions(), Delta::<EventCounts>::default());
        let last_seqs = LastSeqs { live: [(WriterId(1), 5)].into(), ..LastSeqs::default() };
        let mut take = |record| delta.take(record, &mut positions, Some(&last_seqs));
        assert_eq!(take(record(0, 0, 5, 7)), RecordOutcome::Counted);
        assert_eq!(take(record(0, 1, 6, 7)), RecordOutcome::Phantom);
        assert_eq!(take(record(1, 0, 1, 7)), RecordOutcome::Phantom, "its writer is unknown");
        let letters = delta.take_dead_letters();
        assert!(letters.iter().all(|letter| matches!(letter.content, DeadContent::Phantom(_))), "{letters:?}");
        let (advance, counts) = delta.finish("g");
        assert_eq!((letters.len(), counts.total, advance.to[&0], advance.to[&1]), (2, 1, 2, 1));
        assert_eq!(advance.marks, [((WriterId(1), 0), 5)].into());
    }

    #[test]
    fn a_malformed_record_is_set_aside_and_does_not_block() {
        let (mut positions, mut delta) = (positions(), Delta::<EventCounts>::default());
        let body = Err((Malformed::Foreign, vec![1]));
        assert_eq!(
            delta.take(Record { partition: 2, offset: 5, trace: None, body }, &mut positions, None),
            RecordOutcome::Dead
        );
        assert_eq!(delta.take_dead_letters().len(), 1);
        assert_eq!(delta.finish("g").0.to[&2], 6);
    }

    #[test]
    fn the_spans_of_counted_records_are_noted_once() {
        let (mut positions, mut delta) = (positions(), Delta::<EventCounts>::default());
        let trace = |digit: u8| TraceContext::new(&format!("00-{:032x}-{:016x}-01", 7, digit));
        let records = [(1, 1, trace(1)), (2, 2, trace(1)), (3, 3, None), (4, 3, trace(2)), (5, 4, trace(3))];
        for (offset, seq, trace) in records {
            delta.take(Record { trace, ..record(0, offset, seq, 7) }, &mut positions, None);
        }
        let expected: Vec<_> = [trace(1), trace(3)].into_iter().flatten().collect();
        assert_eq!(delta.traces().as_slice(), expected, "the fourth record was counted before");
    }
}
