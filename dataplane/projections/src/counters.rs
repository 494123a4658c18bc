//! The projection of counters: total and minutes, in the cache.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;

use super::{AuditOutcome, CountError, CountSettings, LogPorts, Projection, Sums, audit::audit, rebuild::rebuild};
use ping_core::{Generation, Minute, Positions};
use ping_ports::{Advance, Applied, Clock, CounterCache, Flush, LogBounds, LogEvent, TotalsStore};

/// Events, all and per minute.
#[derive(Debug, Default)]
pub struct EventCounts {
    pub(super) total: i64,
    pub(super) minutes: HashMap<Minute, i64>,
}

impl Sums for EventCounts {
    fn add(&mut self, event: &LogEvent) -> bool {
        *self.minutes.entry(Minute::of(event.timestamp_ms)).or_insert(0) += 1;
        self.total += 1;
        true
    }
}

/// Keeps the counters in the cache.
pub struct CounterProjection {
    pub(super) cache: Arc<dyn CounterCache>,
    pub(super) totals: Arc<dyn TotalsStore>,
    pub(super) bounds: Arc<dyn LogBounds>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: CountSettings,
}

impl CounterProjection {
    /// The cache, and the store that it is filled from and compared with.
    #[must_use]
    pub fn new(
        cache: Arc<dyn CounterCache>,
        totals: Arc<dyn TotalsStore>,
        log: &LogPorts,
        settings: &CountSettings,
    ) -> Self {
        let (bounds, clock) = (Arc::clone(&log.bounds), Arc::clone(&log.clock));
        Self { cache, totals, bounds, clock, settings: settings.clone() }
    }
}

#[async_trait]
impl Projection for CounterProjection {
    type Sums = EventCounts;
    const PRIMARY: bool = true;

    async fn positions(&self) -> Result<Option<Positions>, CountError> {
        Ok(self.cache.positions().await?)
    }

    async fn apply(&self, advance: Advance, counts: EventCounts) -> Result<Applied, CountError> {
        let flush = Flush {
            advance,
            total: counts.total,
            minutes: counts.minutes.into_iter().collect(),
            now: Minute::of(self.clock.now()),
            window: self.settings.window,
        };
        Ok(self.cache.apply(&flush).await?)
    }

    async fn rebuild(&self, seen: Option<&Generation>) -> Result<bool, CountError> {
        rebuild(self, seen).await
    }

    async fn audit(&self) -> Result<AuditOutcome, CountError> {
        let compacted = self.totals.compact_writers(self.settings.compact_after).await?;
        if !compacted.is_empty() {
            self.cache.forget_writers(&compacted).await?;
        }
        audit(self).await
    }

    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CountError> {
        Ok(self.cache.mark_suspect(generation).await?)
    }
}
