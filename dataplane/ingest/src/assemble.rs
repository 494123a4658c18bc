//! Assembles many submissions into one batch of distinct events, and turns the batch's outcome into a receipt for each. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::Receipt;
use ping_core::{Event, Token, seq_offset};
use ping_ports::Batch;

/// What became of a submitted event in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// It is this event of the batch.
    Event(usize),
    /// It repeats this event of the batch.
    Repeat(usize),
    /// It has the id of an event of the batch, but other content: this one of the conflicting events.
    Conflict(usize),
}

/// The distinct events of a batch, and what became of each submitted event.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) events: Arc<Vec<Event>>,
    /// Events that the batch does not have. The store may have one of them.
    conflicting: Vec<Event>,
    slots: Vec<Slot>,
    submissions: Vec<usize>,
}

impl Assembly {
    /// How many submissions it consists of.
    pub(super) fn len(&self) -> usize {
        self.submissions.len()
    }

    /// Adds the events of one submission to `distinct`.
    fn push(&mut self, events: Vec<Event>, distinct: &mut Vec<Event>, seen: &mut Option<HashMap<Uuid, usize>>) {
        self.submissions.push(events.len());
        for event in events {
            let index = distinct.len();
            let first = seen.as_mut().and_then(|seen| match seen.entry(event.id) {
                std::collections::hash_map::Entry::Occupied(entry) => Some(*entry.get()),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(index);
                    None
                }
            });
            match first {
                None => {
                    self.slots.push(Slot::Event(index));
                    distinct.push(event);
                }
                Some(first) if event.repeats(&distinct[first]) => self.slots.push(Slot::Repeat(first)),
                Some(_) => {
                    self.slots.push(Slot::Conflict(self.conflicting.len()));
                    self.conflicting.push(event);
                }
            }
        }
    }

    /// A receipt per submission, in order. `known` are the ids that were stored before this batch, `stored` the events that
    /// have these ids. Without a `batch`, because the answer to its commit was lost, no receipt has a token.
    pub(super) fn receipts(
        &self,
        known: &HashSet<Uuid>,
        stored: &HashMap<Uuid, Event>,
        batch: Option<&Batch>,
    ) -> Vec<Receipt> {
        let mut slots = self.slots.iter();
        let receipt = |count: &usize| {
            let mut receipt = Receipt::default();
            for (place, slot) in slots.by_ref().take(*count).enumerate() {
                let (event, first) = match slot {
                    Slot::Event(index) => (&self.events[*index], Some(*index)),
                    Slot::Repeat(index) => (&self.events[*index], None),
                    Slot::Conflict(index) => (&self.conflicting[*index], None),
                };
                let is_conflict = match stored.get(&event.id) {
                    Some(stored) => !event.repeats(stored),
                    None => matches!(slot, Slot::Conflict(_)),
                };
                if is_conflict {
                    receipt.conflicts.push(place);
                } else if let Some(index) = first.filter(|_| !known.contains(&event.id)) {
                    receipt.accepted += 1;
                    receipt.token = batch.map(|batch| token(batch, index, event));
                }
            }
            receipt
        };
        self.submissions.iter().map(receipt).collect()
    }
}

fn token(batch: &Batch, index: usize, event: &Event) -> Token {
    let seq = batch.first_seq + seq_offset(index);
    Token { writer: batch.writer, partition: batch.partition_of(event), seq }
}

/// Merges submissions into one batch of distinct events, in order.
pub(super) fn assemble(submissions: Vec<Vec<Event>>) -> Assembly {
    // Ids made by the server ascend. A batch of ascending ids is distinct, and needs no map.
    let mut ids = submissions.iter().flatten().map(|event| event.id);
    let mut last = ids.next();
    let ascending = ids.all(|id| last.replace(id).is_some_and(|before| before < id));
    let total = submissions.iter().map(Vec::len).sum();
    let mut seen = (!ascending).then(|| HashMap::with_capacity(total));
    let mut distinct = Vec::with_capacity(total);
    let mut assembly = Assembly {
        events: Arc::default(),
        conflicting: Vec::new(),
        slots: Vec::with_capacity(total),
        submissions: Vec::with_capacity(submissions.len()),
    };
    for events in submissions {
        assembly.push(events, &mut distinct, &mut seen);
    }
    assembly.events = Arc::new(distinct);
    assembly
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ping_core::WriterId;

    fn event(id: u128, at: i64) -> Event {
        Event {
            id: Uuid::from_u128(id),
            timestamp_ms: at,
            timestamp_assumed: false,
            source: "".into(),
            kind: "".into(),
        }
    }

    fn batch(assembly: &Assembly) -> Batch {
        Batch {
            writer: WriterId(3),
            first_seq: 10,
            events: Arc::clone(&assembly.events),
            partitions: 6,
            partition: 2,
            lease: Duration::ZERO,
        }
    }

    #[test]
    fn a_batch_of_new_events_accepts_all() {
        let assembly = assemble(vec![vec![event(1, 5)], vec![event(2, 5), event(3, 5)]]);
        let receipts = assembly.receipts(&HashSet::new(), &HashMap::new(), Some(&batch(&assembly)));
        assert_eq!(receipts.iter().map(|receipt| receipt.accepted).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(receipts[1].token, Some(Token { writer: WriterId(3), partition: 2, seq: 12 }));
    }

    #[test]
    fn the_same_id_twice_in_a_batch_is_one_event() {
        let assembly = assemble(vec![vec![event(1, 5), event(1, 5)], vec![event(1, 6)]]);
        assert_eq!(assembly.events.len(), 1);
        let receipts = assembly.receipts(&HashSet::new(), &HashMap::new(), Some(&batch(&assembly)));
        assert_eq!((receipts[0].accepted, receipts[0].conflicts.len()), (1, 0));
        assert_eq!((receipts[1].accepted, receipts[1].conflicts.as_slice()), (0, [0].as_slice()));
    }

    #[test]
    fn an_id_of_an_event_with_other_content_is_a_conflict() {
        let assembly = assemble(vec![vec![event(1, 5)], vec![event(2, 5)]]);
        let known = HashSet::from([Uuid::from_u128(1), Uuid::from_u128(2)]);
        let stored = HashMap::from([(Uuid::from_u128(1), event(1, 5)), (Uuid::from_u128(2), event(2, 7))]);
        let receipts = assembly.receipts(&known, &stored, Some(&batch(&assembly)));
        assert_eq!(receipts[0], Receipt::default());
        assert_eq!(receipts[1].conflicts, [0]);
    }

    #[test]
    fn a_retry_is_no_conflict_because_of_another_content_before_it() {
        let assembly = assemble(vec![vec![event(1, 6)], vec![event(1, 5), event(1, 7)], vec![event(1, 5)]]);
        let id = Uuid::from_u128(1);
        let (known, stored) = (HashSet::from([id]), HashMap::from([(id, event(1, 5))]));
        let receipts = assembly.receipts(&known, &stored, Some(&batch(&assembly)));
        let conflicts: Vec<_> = receipts.iter().map(|receipt| receipt.conflicts.as_slice()).collect();
        assert_eq!(conflicts, [[0].as_slice(), &[1], &[]]);
        assert!(receipts.iter().all(|receipt| receipt.accepted == 0));
    }
}
