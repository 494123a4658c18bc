//! The audit of the views.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{state::Views, store::MemoryStore};
use ping_core::{Day, Generation, Millis};
use ping_ports::{
    Incarnation, IncarnationChange, Incarnations, PeriodSums, RowDifference, SAME_CHANGE, StoreError, ViewAudit,
    ViewAuditState, ViewSums,
};
use ping_segments::{AuditedSegment, Family};

#[async_trait]
impl ViewAudit for MemoryStore {
    async fn view_sums(&self) -> Result<Option<ViewSums>, StoreError> {
        let state = self.state.lock();
        let Some(views) = state.views.as_ref() else { return Ok(None) };
        let mut committed = BTreeMap::new();
        for event in state.events.values().filter(|event| !event.source.is_empty()) {
            *committed.entry(Day::of(event.timestamp_ms)).or_insert(0) += 1;
        }
        for (minute, (_, attributed)) in state.dropped.minutes.iter().filter(|(_, (_, attributed))| *attributed > 0) {
            *committed.entry(minute.day()).or_insert(0) += attributed;
        }
        Ok(Some(ViewSums {
            generation: views.positions.generation.clone(),
            until: self.clock.now(),
            as_of: views.watermarks.lowest(),
            complete: true,
            committed,
            added: views.added.clone(),
            held: held(views),
        }))
    }

    async fn audited_segments(&self, after: i64, limit: usize) -> Result<Vec<AuditedSegment>, StoreError> {
        let state = self.state.lock();
        let segments = state.views.iter().flat_map(|views| views.segments.range(after + 1..));
        Ok(segments.take(limit).map(|(_, segment)| segment.clone()).collect())
    }

    /// There are none.
    async fn differing_rows(&self, _: Day, _: Day) -> Result<Vec<RowDifference>, StoreError> {
        Ok(Vec::new())
    }

    async fn mark_views_suspect(&self, generation: &Generation) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.views.as_ref().is_some_and(|views| views.positions.generation == *generation) {
            state.view_audit.suspect = true;
        }
        Ok(())
    }

    async fn views_audited(&self, generation: &Generation, at: Millis) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.views.as_ref().is_some_and(|views| views.positions.generation == *generation) {
            state.view_audit = ViewAuditState { suspect: false, last_audit: Some(at), ..state.view_audit };
        }
        Ok(())
    }

    async fn view_audit_state(&self) -> Result<ViewAuditState, StoreError> {
        Ok(self.state.lock().view_audit)
    }
}

#[async_trait]
impl Incarnations for MemoryStore {
    async fn note_change(&self, of: Incarnation, phantoms: i64, at: Millis) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let is_recent = state.change_noted > at - SAME_CHANGE;
        let noted = state.view_audit.change.filter(|change| change.of == of && is_recent);
        let change = noted.unwrap_or(IncarnationChange { of, noticed: at, phantoms: 0 });
        state.view_audit.change = Some(IncarnationChange { phantoms: change.phantoms + phantoms, ..change });
        state.change_noted = at;
        Ok(())
    }
}

fn held(views: &Views) -> PeriodSums {
    let mut held = PeriodSums::new();
    for AuditedSegment { segment, events, .. } in views.segments.values() {
        if segment.place.family != Family::Minutes {
            *held.entry((segment.place.family, segment.place.period)).or_insert(0) += events;
        }
    }
    held
}

impl MemoryStore {
    /// Changes segments as someone does who has access to the database.
    pub fn edit_segments(&self, edit: impl FnOnce(&mut BTreeMap<i64, AuditedSegment>)) {
        if let Some(views) = self.state.lock().views.as_mut() {
            edit(&mut views.segments);
        }
    }
}
