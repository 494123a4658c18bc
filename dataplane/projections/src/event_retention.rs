//! Drops events that are older than they are kept: first the cutoff moves, and a while later the days before it are dropped.

use std::{sync::Arc, time::Duration};

use super::clock_check::agreed_time;
use ping_core::{Day, Millis, Retention, kept_from, millis};
use ping_ports::{Cause, Clock, EventCutoff, EventRetention, chain};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Days that are kept for longer than the setting says, because the clocks of servers and processors may differ.
const MARGIN_DAYS: i64 = 1;
/// Milliseconds in an hour.
const HOUR: Millis = 60 * 60_000;

/// How events are dropped.
#[derive(Clone, Copy, Debug)]
pub struct EventRetentionSettings {
    /// Days for which events are kept, not counting today; `None` keeps all that are not dropped yet.
    pub days: Option<i64>,
    /// Pause between two looks at the cutoff.
    pub interval: Duration,
    /// Time from a move of the cutoff until what lies before it is dropped: every server has noticed it by then, and rejects the ids.
    pub grace: Duration,
}

impl EventRetentionSettings {
    /// Keeps events for `days` days.
    #[must_use]
    pub fn new(days: Option<i64>) -> Self {
        Self { days, interval: Duration::from_secs(60), grace: Duration::from_secs(60) }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Move(Day),
    Prepare,
    /// Prepare, then drop.
    Drop,
}

/// Drops events by their age.
pub struct EventRetentionTask {
    store: Arc<dyn EventRetention>,
    clock: Arc<dyn Clock>,
    settings: EventRetentionSettings,
    /// What the views keep of dropped events.
    views: Retention,
    metrics: EventRetentionMetrics,
}

struct EventRetentionMetrics {
    dropped: Counter,
    errors: Counter,
    cutoff: Gauge,
}

impl EventRetentionMetrics {
    fn register(registry: &mut Registry) -> Self {
        let (dropped, errors, cutoff) = (Counter::default(), Counter::default(), Gauge::default());
        registry.register(
            "ping_events_dropped",
            "Events whose rows were dropped because of their age",
            dropped.clone(),
        );
        registry.register("ping_event_retention_errors", "Failed attempts to drop old events", errors.clone());
        let help = "Event ids that were created before this time are no longer accepted; 0 if all are";
        registry.register("ping_event_cutoff_timestamp_seconds", help, cutoff.clone());
        Self { dropped, errors, cutoff }
    }
}

impl EventRetentionTask {
    /// A task that drops events of `store`.
    pub fn new(
        store: Arc<dyn EventRetention>,
        clock: Arc<dyn Clock>,
        settings: EventRetentionSettings,
        views: Retention,
        registry: &mut Registry,
    ) -> Self {
        Self { store, clock, settings, views, metrics: EventRetentionMetrics::register(registry) }
    }

    /// Runs until `shutdown`. A day that is being dropped then stays, and is dropped after the next start.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut dropped_at = None;
        let run = async {
            loop {
                if let Err(error) = self.step(&mut dropped_at).await {
                    self.metrics.errors.inc();
                    tracing::warn!(error = chain(&*error), "old events not dropped; retrying");
                }
                sleep(self.settings.interval).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = run => {}
        }
    }

    /// Does what is due, if the clocks agree: the cutoff never moves back, and what is dropped is gone. `dropped_at`: the hour in which this
    /// task last dropped what lay before the cutoff, and the cutoff then.
    async fn step(&self, dropped_at: &mut Option<(i64, Option<Day>)>) -> Result<(), Cause> {
        let cutoff = self.store.event_cutoff().await?;
        self.metrics.cutoff.set(cutoff.first_day.map_or(0, |day| day.start() / 1_000));
        if self.settings.days.is_none() && cutoff.first_day.is_none() {
            return Ok(());
        }
        let now = agreed_time(self.clock.now(), cutoff.now)?;
        let current = (now / HOUR, cutoff.first_day);
        match due(&self.settings, now, cutoff, *dropped_at == Some(current)) {
            Due::Nothing => {}
            Due::Move(first_day) => {
                self.store.move_cutoff(first_day, now).await?;
                tracing::info!(first_day = first_day.0, "ids of earlier days are no longer accepted");
            }
            Due::Prepare => self.store.prepare_days(Day::of(now)).await?,
            Due::Drop => {
                self.store.prepare_days(Day::of(now)).await?;
                let Some(dropped) = self.store.drop_expired(self.views.at(now)).await? else { return Ok(()) };
                *dropped_at = Some(current);
                self.metrics.dropped.inc_by(dropped);
                if dropped > 0 {
                    tracing::info!(dropped, "events dropped because of their age");
                }
            }
        }
        Ok(())
    }
}

fn due(settings: &EventRetentionSettings, now: Millis, cutoff: EventCutoff, is_dropped: bool) -> Due {
    let first_day = settings.days.map(|days| kept_from(now, days).back(MARGIN_DAYS));
    match first_day {
        Some(first_day) if cutoff.first_day.is_none_or(|held| held < first_day) => Due::Move(first_day),
        _ if cutoff.first_day.is_none() || now < cutoff.moved_at.saturating_add(millis(settings.grace)) => Due::Nothing,
        _ if is_dropped || settings.days.is_none() => Due::Prepare,
        _ => Due::Drop,
    }
}

#[cfg(test)]
mod tests;
