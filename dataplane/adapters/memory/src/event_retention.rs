//! Dropping events, under the same lock as everything else.

use async_trait::async_trait;
use ping_core::{Day, Millis, Minute, RetentionCutoffs};
use ping_ports::{EventCutoff, EventRetention, StoreError};
use ping_segments::Changes;
use uuid::Uuid;

use super::{state::State, store::MemoryStore};

#[async_trait]
impl EventRetention for MemoryStore {
    async fn event_cutoff(&self) -> Result<EventCutoff, StoreError> {
        Ok(EventCutoff { now: self.clock.now(), ..self.state.lock().dropped.cutoff })
    }

    async fn move_cutoff(&self, first_day: Day, now: Millis) -> Result<(), StoreError> {
        let cutoff = &mut self.state.lock().dropped.cutoff;
        if cutoff.first_day.is_none_or(|held| held < first_day) {
            *cutoff = EventCutoff { first_day: Some(first_day), moved_at: now, ..*cutoff };
        }
        Ok(())
    }

    /// There is nothing to prepare.
    async fn prepare_days(&self, _: Day) -> Result<(), StoreError> {
        Ok(())
    }

    async fn drop_expired(&self, cutoffs: RetentionCutoffs) -> Result<Option<u64>, StoreError> {
        let mut guard = self.state.lock();
        let State { events, times, dropped, .. } = &mut *guard;
        let Some(first_day) = dropped.cutoff.first_day else { return Ok(Some(0)) };
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
        dropped.cutoff.milliseconds_from = first_day.start();
        *times = times.split_off(&first_day.start());
        Ok(Some((before - events.len()) as u64))
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
