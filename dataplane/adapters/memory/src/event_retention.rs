//! Dropping events, under the same lock as everything else.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ping_core::{Day, Millis, Minute, RetentionCutoffs, SourceCounts, id_day};
use ping_ports::{DroppedEvents, EventHorizon, EventRetention, StoreError};
use ping_segments::{Changes, FormatError, Place, Segment, merge};
use uuid::Uuid;

use super::{state::State, store::MemoryStore};

/// What remains of the events that were dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped {
    pub(super) horizon: EventHorizon,
    /// Whether their ids are committed again; see [`MemoryStore::commit_dropped_ids`].
    pub(super) are_committed: bool,
    /// Per minute, all of them, and those with a source.
    pub(super) minutes: BTreeMap<Minute, (i64, i64)>,
    /// What they had contributed to the views: a rebuild begins with it.
    pub(super) base: BTreeMap<Place, Segment>,
    /// The same, counted one by one.
    pub(super) counts: SourceCounts,
}

impl Dropped {
    pub(super) fn events(&self) -> DroppedEvents {
        DroppedEvents {
            count: self.minutes.values().map(|(count, _)| count).sum(),
            until: self.minutes.keys().last().map_or(0, |last| Minute(last.0 + 1).start()),
        }
    }

    /// Whether an event with this id was dropped, or will be.
    pub(super) fn refuses(&self, id: Uuid) -> bool {
        self.horizon.first_day.is_some_and(|first| id_day(id).is_some_and(|day| day < first))
    }

    /// Adds segments to the base. Each place then has one.
    fn add(&mut self, mut segments: Vec<Segment>) -> Result<(), FormatError> {
        while let Some(segment) = segments.pop() {
            match self.base.remove(&segment.place) {
                Some(held) => segments.extend(merge(segment.place, [&*held.data, &*segment.data])?),
                None => drop(self.base.insert(segment.place, segment)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl EventRetention for MemoryStore {
    async fn event_horizon(&self) -> Result<EventHorizon, StoreError> {
        Ok(self.state.lock().dropped.horizon)
    }

    async fn move_horizon(&self, first_day: Day, now: Millis) -> Result<(), StoreError> {
        let horizon = &mut self.state.lock().dropped.horizon;
        if horizon.first_day.is_none_or(|held| held < first_day) {
            *horizon = EventHorizon { first_day: Some(first_day), moved_at: now, ..*horizon };
        }
        Ok(())
    }

    /// There is nothing to prepare.
    async fn prepare_days(&self, _: Day) -> Result<(), StoreError> {
        Ok(())
    }

    async fn drop_expired(&self, cutoffs: RetentionCutoffs) -> Result<u64, StoreError> {
        let mut guard = self.state.lock();
        let State { events, times, dropped, .. } = &mut *guard;
        let Some(first_day) = dropped.horizon.first_day else { return Ok(0) };
        let mut changes = Changes::default();
        let before = events.len();
        let expired: Vec<_> = events.extract_if(|id, _| dropped.refuses(*id)).map(|(_, event)| event).collect();
        for event in expired {
            let has_source = changes.add(&event.source, &event.kind, event.timestamp_ms);
            dropped.counts.add(&event.source, &event.kind, event.timestamp_ms);
            let minute = dropped.minutes.entry(Minute::of(event.timestamp_ms)).or_default();
            *minute = (minute.0 + 1, minute.1 + i64::from(has_source));
        }
        let segments = changes.segments(cutoffs).collect::<Result<Vec<_>, _>>();
        segments.and_then(|segments| dropped.add(segments)).map_err(|error| StoreError(error.into()))?;
        dropped.horizon.milliseconds_from = first_day.start();
        *times = times.split_off(&first_day.start());
        Ok((before - events.len()) as u64)
    }
}

impl MemoryStore {
    /// Whether an event with this id was dropped, or will be.
    #[must_use]
    pub fn refuses(&self, id: Uuid) -> bool {
        self.state.lock().dropped.refuses(id)
    }

    /// Commits ids of days that were dropped, as a store does that drops rows alone.
    pub fn commit_dropped_ids(&self) {
        self.state.lock().dropped.are_committed = true;
    }

    /// Forgets what dropped events had contributed to the views, as a store does that drops rows alone.
    pub fn forget_base(&self) {
        self.state.lock().dropped.base.clear();
    }
}
