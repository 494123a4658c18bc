//! The store of record: events, outbox and totals.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use super::state::{State, Writer};
use ping_core::{Event, LastSeqs, Millis, Minute, Seq, TimeRange, WriterId, millis, seq_offset};
use ping_ports::{
    Batch, Clock, CommitError, Committed, Counted, EventStore, Outbox, OutboxRow, OutboxWatermark, RangeCountError,
    Recount, Snapshot, StoreError, TotalsStore, WriterTotal,
};

/// Implements every store port over maps. Nothing is persisted.
pub struct MemoryStore {
    pub(super) state: Mutex<State>,
    pub(super) clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// An empty store that takes its time from `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), clock }
    }

    /// Uses the numbers again that come after those of the writers it has, as a sequence in a restored database does.
    pub fn reissue_writer_numbers(&self) {
        let mut state = self.state.lock();
        state.next_writer = state.writers.keys().last().map_or(0, |writer| writer.0);
    }

    /// Lets the next commit of `writer` begin at `first_seq`, as a store does that takes gaps.
    pub fn skip_to(&self, writer: WriterId, first_seq: Seq) {
        if let Some(writer) = self.state.lock().writers.get_mut(&writer) {
            writer.last_seq = first_seq - 1;
        }
    }

    /// Copies everything, and returns a function that restores the copy: what a backup is to a real store. Neither writers nor segments
    /// get a number again that was used after the copy.
    pub fn save(&self) -> impl FnOnce(&Self) + Send + use<> {
        let saved = self.state.lock().clone();
        move |store| {
            let mut state = store.state.lock();
            let next_segment = state.views.as_ref().map_or(1, |views| views.next_segment);
            let next_writer = state.next_writer;
            *state = saved;
            state.next_writer = next_writer;
            if let Some(views) = &mut state.views {
                views.next_segment = next_segment.max(views.next_segment);
            }
        }
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn open_writer(&self, lease: Duration) -> Result<WriterId, StoreError> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.next_writer += 1;
        let writer = WriterId(state.next_writer);
        let lease_until = now.saturating_add(millis(lease));
        state.writers.insert(writer, Writer { last_seq: 0, open: true, lease_until, lent_until: 0, touched: now });
        Ok(writer)
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, CommitError> {
        let now = self.clock.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(writer) = state.writers.get_mut(&batch.writer) else { return Err(CommitError::Fenced) };
        if !writer.open || writer.last_seq != batch.first_seq - 1 {
            return Err(CommitError::Fenced);
        }
        if !state.dropped.are_committed && batch.events.iter().any(|event| state.dropped.refuses(event.id)) {
            return Err(CommitError::Expired);
        }
        writer.last_seq = batch.last_seq();
        writer.lease_until = now.saturating_add(millis(batch.lease));
        writer.touched = now;
        let mut committed = Committed { at: now, ..Committed::default() };
        for event in batch.events.iter() {
            if state.events.contains_key(&event.id) {
                committed.known.insert(event.id);
                continue;
            }
            state.events.insert(event.id, event.clone());
            *state.times.entry(event.timestamp_ms).or_insert(0) += 1;
            let minute = state.minutes.entry(Minute::of(event.timestamp_ms)).or_insert((0, now));
            *minute = (minute.0 + 1, now);
            state.total += 1;
        }
        let row = OutboxRow { batch: batch.clone(), committed: committed.clone(), trace: None };
        state.outbox.insert((batch.writer, batch.last_seq()), row);
        Ok(committed)
    }

    async fn renew(&self, writer: WriterId, last: Seq, lease: Duration) -> Result<bool, StoreError> {
        let lease_until = self.clock.now().saturating_add(millis(lease));
        let mut state = self.state.lock();
        let follows = |writer: &&mut Writer| writer.open && writer.last_seq == last;
        let Some(writer) = state.writers.get_mut(&writer).filter(follows) else { return Ok(false) };
        writer.lease_until = lease_until;
        Ok(true)
    }

    async fn close_writer(&self, writer: WriterId) -> Result<Seq, StoreError> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let writer = state.writers.get_mut(&writer).ok_or_else(|| StoreError("no such writer".into()))?;
        writer.open = false;
        writer.touched = now;
        Ok(writer.last_seq)
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Event>, StoreError> {
        let state = self.state.lock();
        Ok(ids.iter().filter_map(|id| state.events.get(id).cloned()).collect())
    }
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn unpublished(&self, writer: WriterId, after: Seq, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let state = self.state.lock();
        let mut events = 0;
        let rows = state.outbox.range((writer, after + 1)..=(writer, Seq::MAX)).map(|(_, row)| row.clone());
        Ok(rows
            .take_while(|row| {
                let fits = events < limit;
                events += row.batch.events.len();
                fits
            })
            .collect())
    }

    async fn forget(&self, writer: WriterId, seq: Seq) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let rest = state.outbox.split_off(&(writer, 0));
        state.outbox.extend(rest.into_iter().filter(|((of, last), _)| *of != writer || *last > seq));
        Ok(())
    }

    async fn claim_orphan(&self, lease: Duration) -> Result<Option<WriterId>, StoreError> {
        let now = self.clock.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for writer in state.writers.values_mut().filter(|writer| writer.open && writer.lease_until < now) {
            writer.open = false;
            writer.touched = now;
        }
        let outbox = &state.outbox;
        let has_rows = |writer: WriterId| outbox.range((writer, 0)..=(writer, Seq::MAX)).next().is_some();
        let orphan =
            state.writers.iter_mut().find(|(id, writer)| !writer.open && writer.lent_until <= now && has_rows(**id));
        Ok(orphan.map(|(id, writer)| {
            writer.lent_until = now.saturating_add(millis(lease));
            *id
        }))
    }

    async fn outbox_watermark(&self) -> Result<OutboxWatermark, StoreError> {
        let now = self.clock.now();
        let oldest = self.state.lock().outbox.values().map(|row| row.committed.at).min();
        Ok(OutboxWatermark { now, oldest_unpublished: oldest })
    }

    async fn last_seqs(&self, writers: &[WriterId]) -> Result<LastSeqs, StoreError> {
        Ok(self.state.lock().last_seqs(writers.iter().copied()))
    }
}

#[async_trait]
impl TotalsStore for MemoryStore {
    async fn count(&self, range: Option<TimeRange>) -> Result<Counted, RangeCountError> {
        let as_of = self.clock.now();
        let state = self.state.lock();
        let Some(range) = range else { return Ok(Counted { count: state.total, as_of }) };
        let split = range.split();
        let kept_from = state.dropped.cutoff.milliseconds_from;
        if split.rows.iter().any(|(from, _)| *from < kept_from) {
            return Err(RangeCountError::EdgeDropped(kept_from));
        }
        let rows = split.rows.iter().flat_map(|(from, to)| state.times.range(from..to)).map(|(_, count)| count);
        let days = split.days.iter().map(|(from, to)| (from * 1440, to.saturating_mul(1440)));
        let minutes = split.minutes.iter().copied().chain(days);
        let minutes = minutes.flat_map(|(from, to)| state.minutes.range(Minute(from)..Minute(to)));
        let count = rows.sum::<i64>() + minutes.map(|(_, (count, _))| count).sum::<i64>();
        Ok(Counted { count, as_of })
    }

    async fn snapshot(&self, since: Minute, touched: Duration) -> Result<Snapshot, StoreError> {
        let now = self.clock.now();
        let touched_since = now.saturating_sub(millis(touched));
        let state = self.state.lock();
        let wanted = |minute: Minute, at: Millis| minute >= since || (!touched.is_zero() && at >= touched_since);
        let minutes = state.minutes.iter().filter(|(minute, (_, at))| wanted(**minute, *at));
        Ok(Snapshot {
            at: now,
            until: self.clock.now(),
            total: state.total,
            minutes: minutes.map(|(minute, (count, _))| (*minute, *count)).collect(),
            writers: state
                .writers
                .iter()
                .map(|(id, writer)| WriterTotal { writer: *id, last_seq: writer.last_seq })
                .collect(),
        })
    }

    async fn recount(&self) -> Result<Recount, StoreError> {
        let state = self.state.lock();
        let mut rows: BTreeMap<Minute, i64> = BTreeMap::new();
        for event in state.events.values() {
            *rows.entry(Minute::of(event.timestamp_ms)).or_insert(0) += 1;
        }
        for (minute, (count, _)) in &state.dropped.minutes {
            *rows.entry(*minute).or_insert(0) += count;
        }
        let minutes_total = state.minutes.values().map(|(count, _)| count).sum();
        let differing = state.minutes.keys().chain(rows.keys()).filter(|minute| {
            state.minutes.get(minute).map_or(0, |(count, _)| *count) != rows.get(minute).copied().unwrap_or(0)
        });
        let differing: std::collections::BTreeSet<_> = differing.copied().collect();
        Ok(Recount {
            rows: seq_offset(state.events.len()),
            dropped: state.dropped.events(),
            total: state.total,
            minutes_total,
            days_total: minutes_total,
            differing_minutes: differing.into_iter().take(100).collect(),
        })
    }

    async fn compact_writers(&self, age: Duration) -> Result<Vec<WriterId>, StoreError> {
        let before = self.clock.now().saturating_sub(millis(age));
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let outbox = &state.outbox;
        let has_rows = |writer: WriterId| outbox.range((writer, 0)..=(writer, Seq::MAX)).next().is_some();
        let old =
            state.writers.iter().filter(|(id, writer)| !writer.open && writer.touched < before && !has_rows(**id));
        let compacted: BTreeMap<_, _> = old.map(|(id, writer)| (*id, writer.last_seq)).collect();
        state.writers.retain(|id, _| !compacted.contains_key(id));
        state.compacted.extend(&compacted);
        Ok(compacted.into_keys().collect())
    }
}
