//! What must be true at any time, and in the end.

use std::time::Duration;

use ping_core::{Event, Millis, Minute};
use ping_history::{Count, Includes};
use ping_ports::{CounterCache, EventStore, SourceReader, TotalsStore, ViewAudit};
use tokio::{task::JoinSet, time::sleep};

use super::{AUDIT_INTERVAL, World};
use crate::{
    clients,
    report::Report,
    statuses,
    view_audit::{Edit, edit},
};

impl World {
    /// What must hold for a reader at any time: the count is never too high. The history checks what it includes.
    pub(super) async fn check_reading(&self) -> Result<(), String> {
        let began = self.clock.now();
        let Some(reading) = self.cache.read(None).await.unwrap() else { return Ok(()) };
        let stored = self.store.count(None).await.unwrap().count;
        // Until the cache is rebuilt, its answers hold for a time before the store went back.
        let is_current = reading.as_of > self.sent.lock().went_back;
        if is_current && reading.total > stored {
            return Err(format!("the cache has {}, the store {stored}", reading.total));
        }
        let at = clients::since(began, &*self.clock);
        let answer = |includes, count, as_of_ms| Count { includes, count, as_of_ms, exact: true };
        {
            let mut sent = self.sent.lock();
            if is_current {
                sent.history.count(at, answer(Includes::AsOf, reading.total, reading.as_of));
            }
            sent.history.count(at, answer(Includes::Strong, stored, 0));
        }
        self.check_views().await
    }

    /// The same for the views per source.
    async fn check_views(&self) -> Result<(), String> {
        let as_of = self.store.as_of().await.unwrap();
        let held: i64 = self.store.views().unwrap().kinds.values().map(|span| span.count).sum();
        let with_source = |events: Vec<Event>| events.iter().filter(|event| !event.source.is_empty()).count();
        let before: Vec<_> = {
            let sent = self.sent.lock();
            sent.acknowledged.iter().filter(|(_, at)| **at < as_of).map(|(id, _)| *id).collect()
        };
        let before = with_source(self.store.find(&before).await.unwrap());
        let rows: i64 = self.store.recounted_views().kinds.values().map(|span| span.count).sum();
        if held > rows {
            return Err(format!("the views have {held} events with a source, the store {rows}"));
        }
        if held < i64::try_from(before).unwrap() {
            return Err(format!("the views have {held}, but {before} were acknowledged before their as_of"));
        }
        Ok(())
    }

    /// Waits until nothing changes any more, then compares everything.
    pub(super) async fn settle(mut self, readers: [JoinSet<()>; 3]) -> Result<Report, String> {
        if self.servers.is_empty() {
            self.start_server();
        }
        for _ in 0..60 {
            sleep(Duration::from_millis(500)).await;
            self.check_reading().await?;
            if self.is_settled().await {
                break;
            }
        }
        // Long enough for an audit to act on a difference, and for one more.
        sleep(AUDIT_INTERVAL * 5).await;
        // An audit of the views pauses for five seconds after an error, and notes its result every five seconds.
        for _ in 0..10 {
            if self.store.view_audit_state().await.unwrap().last_audit.is_some() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        let repaired = self.views_metrics.drifts.get();
        if repaired > 0 {
            return Err(format!("audits had to repair the views {repaired} times"));
        }
        // Readers would cache statuses that follow from edited counts.
        drop(readers);
        let edits = if self.rng.chance(25) { self.edit_views().await? } else { 0 };
        Ok(Report { edits, ..self.final_check().await? })
    }

    /// Edits a segment, and waits until an audit has repaired the views. Returns how many segments were edited.
    async fn edit_views(&self) -> Result<u64, String> {
        let what = if self.rng.chance(50) { Edit::Delete } else { Edit::Double };
        if !edit(&self.store, what, usize::try_from(self.rng.below(1_000)).unwrap()) {
            return Ok(0);
        }
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            let state = self.store.view_audit_state().await.unwrap();
            if self.views_metrics.drifts.get() > 0 && !state.suspect && self.is_settled().await {
                return Ok(1);
            }
        }
        Err(format!("the views were not repaired within a minute after {what:?}"))
    }

    async fn is_settled(&self) -> bool {
        let stored = self.store.count(None).await.unwrap().count;
        let counted = self.cache.read(None).await.unwrap().is_some_and(|reading| reading.total == stored);
        counted && self.store.views().unwrap() == self.store.recounted_views()
    }

    async fn final_check(self) -> Result<Report, String> {
        let recount = self.store.recount().await.unwrap();
        let stored = self.store.snapshot(Minute(0), Duration::ZERO).await.unwrap();
        let mut ids: Vec<_> = self.sent.lock().acknowledged.keys().copied().collect();
        ids.retain(|id| !self.store.refuses(*id));
        let present = self.store.find(&ids).await.unwrap().len();
        let counters = self.cache.counters().await.unwrap().ok_or("the cache is empty in the end")?;
        let drifts = self.count_metrics.drifts.get();
        let (sent, refused, violations) = {
            let sent = self.sent.lock();
            (sent.ids.len(), sent.refused, sent.history.check())
        };
        if let Some(violation) = violations.first() {
            return Err(violation.to_string());
        }
        if present != ids.len() {
            return Err(format!("{} of {} acknowledged events are not in the store", ids.len() - present, ids.len()));
        }
        if usize::try_from(recount.events()).unwrap() > sent {
            return Err(format!("{} events from {sent} distinct ids", recount.events()));
        }
        if counters.total != stored.total || recount.events() != stored.total {
            return Err(format!("{recount:?}, store {}, cache {}", stored.total, counters.total));
        }
        let touched = |minute| counters.minutes.contains_key(minute);
        let minutes = stored.minutes.iter().filter(|(minute, _)| touched(*minute));
        if counters.minutes != minutes.map(|(minute, count)| (*minute, *count)).collect() {
            return Err(format!("minutes differ: store {:?}, cache {:?}", stored.minutes, counters.minutes));
        }
        let (counted, rows) = (self.store.views().unwrap(), self.store.recounted_views());
        if counted != rows {
            return Err(format!("views per source differ: rows {rows:?}, views {counted:?}"));
        }
        let statuses = statuses::check(&self.statuses, &rows, Minute::of(self.clock.now())).await?;
        if drifts > 0 {
            return Err(format!("audits had to repair the cache {drifts} times"));
        }
        self.check_ages(counters.as_of).await?;
        Ok(Report {
            events: u64::try_from(recount.events()).unwrap(),
            dropped: u64::try_from(recount.dropped.count).unwrap(),
            refused,
            replayed: self.count_metrics.duplicates.get(),
            rebuilds: self.count_metrics.rebuilds.get(),
            stale: self.count_metrics.stale.get(),
            fenced: self.ingest_metrics.fenced.get(),
            relayed: self.ingest_metrics.relayed.get(),
            crashes: self.crashes,
            restores: self.restores,
            rollbacks: self.count_metrics.store_rollbacks.get(),
            phantoms: self.views_metrics.phantoms.get(),
            recreations: self.recreations,
            outgrown: self.outgrown,
            other_logs: self.count_metrics.log_recreations.get() + self.views_metrics.log_recreations.get(),
            old_statuses: self.old_statuses,
            earlier_epochs: self.earlier_epochs,
            statuses,
            ..Report::default()
        })
    }

    /// After a quiet time, the count and the audits are recent.
    async fn check_ages(&self, as_of: Millis) -> Result<(), String> {
        let now = self.clock.now();
        let last_audit = self.cache.read(None).await.unwrap().and_then(|reading| reading.last_audit);
        let views = self.store.view_audit_state().await.unwrap();
        if as_of + 5_000 < now {
            return Err(format!("as_of is {} ms old after a quiet time", now - as_of));
        }
        if last_audit.is_none_or(|at| at + 10_000 < now) {
            return Err(format!("the last audit was at {last_audit:?}, it is {now} now"));
        }
        if views.suspect || views.last_audit.is_none_or(|at| at + 15_000 < now) {
            return Err(format!("the views are {views:?}, it is {now} now"));
        }
        Ok(())
    }
}
