//! The projection of counters: the total and the counts per minute, in the cache.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    error::CountError,
    projection::{AuditOutcome, Projection, Sums},
    settings::{CountSettings, LogPorts},
};
use ping_core::{Generation, Mark, Marks, Millis, Minute, Positions};
use ping_ports::{
    Advance, Applied, CacheSnapshot, Clock, CounterCache, Flush, LogBounds, LogEvent, Outbox, SourceReader,
    TotalsStore, TraceStep, compare, has_counted,
};

/// How often, and how long apart, an audit waits for the cache to reach its first look at the store.
const AUDIT_WAITS: u32 = 20;
const AUDIT_WAIT: Duration = Duration::from_millis(100);

/// Events, in total and per minute.
#[derive(Debug, Default)]
pub struct EventCounts {
    pub(super) total: i64,
    pub(super) minutes: HashMap<Minute, i64>,
}

impl Sums for EventCounts {
    fn add(&mut self, event: &LogEvent) {
        *self.minutes.entry(Minute::of(event.timestamp_ms)).or_insert(0) += 1;
        self.total += 1;
    }

    fn bytes(&self) -> usize {
        self.minutes.len() * size_of::<(Minute, i64)>()
    }
}

/// Stores the counters in the cache.
pub struct CounterProjection {
    cache: Arc<dyn CounterCache>,
    totals: Arc<dyn TotalsStore>,
    /// Says how far the other projection has counted.
    views: Arc<dyn SourceReader>,
    outbox: Arc<dyn Outbox>,
    bounds: Arc<dyn LogBounds>,
    clock: Arc<dyn Clock>,
    window: i64,
    compact_after: Duration,
}

impl CounterProjection {
    /// A projection in `cache`, which is rebuilt from `totals` and audited against it. Writers are compacted once `views` have counted their
    /// events, too.
    #[must_use]
    pub fn new(
        cache: Arc<dyn CounterCache>,
        totals: Arc<dyn TotalsStore>,
        views: Arc<dyn SourceReader>,
        log: &LogPorts,
        settings: &CountSettings,
    ) -> Self {
        let LogPorts { outbox, bounds, clock, .. } = log.clone();
        let CountSettings { window, compact_after, .. } = *settings;
        Self { cache, totals, views, outbox, bounds, clock, window, compact_after }
    }

    fn minute(&self) -> Minute {
        Minute::of(self.clock.now())
    }

    /// How long ago a writer must have been closed to be compacted; `None` while a projection is empty.
    async fn compaction_age(&self) -> Result<Option<Duration>, CountError> {
        let Some(counters) = self.cache.read(None).await? else { return Ok(None) };
        let counted_until = counters.as_of.min(self.views.as_of().await?);
        let now = self.outbox.outbox_watermark().await?.now;
        Ok(compaction_age(now, counted_until, self.compact_after))
    }
}

/// The age at the store time `now` of what was `after` old when the projections had counted everything until `counted_until`. Marks of writers
/// that are younger are still needed: a backlog may have records of theirs, and some of them twice.
fn compaction_age(now: Millis, counted_until: Millis, after: Duration) -> Option<Duration> {
    let behind = now.saturating_sub(counted_until).max(0);
    (counted_until > 0).then(|| after.saturating_add(Duration::from_millis(behind.unsigned_abs())))
}

#[async_trait]
impl Projection for CounterProjection {
    type Sums = EventCounts;
    const PRIMARY: bool = true;
    const STEP: TraceStep = TraceStep::FlushCounters;

    async fn positions(&self) -> Result<Option<Positions>, CountError> {
        Ok(self.cache.positions().await?)
    }

    async fn apply(&self, advance: Advance, counts: EventCounts) -> Result<Applied, CountError> {
        let flush = Flush {
            advance,
            total: counts.total,
            minutes: counts.minutes.into_iter().collect(),
            now: self.minute(),
            window: self.window,
        };
        Ok(self.cache.apply(&flush).await?)
    }

    /// The order matters: first the ends of the log, then the snapshot. Whatever lies below the ends was committed before it
    /// was published, so the snapshot includes it. Whatever lies above them and was committed before the snapshot is skipped
    /// because of its writer's mark.
    async fn rebuild(&self, seen: Option<&Generation>) -> Result<bool, CountError> {
        let bounds = self.bounds.bounds().await?;
        let now = self.minute();
        let touched = Duration::from_secs(60 * self.window.unsigned_abs());
        let minutes_from = now.back(self.window);
        let snapshot = self.totals.snapshot(minutes_from, touched).await?;
        let base = |last_seq| Mark { base: last_seq, partitions: BTreeMap::new() };
        let rebuilt = CacheSnapshot {
            positions: Positions {
                generation: Uuid::now_v7().to_string(),
                offsets: bounds.iter().map(|(partition, bounds)| (*partition, bounds.end)).collect(),
                marks: Marks(snapshot.writers.iter().map(|writer| (writer.writer, base(writer.last_seq))).collect()),
            },
            total: snapshot.total,
            minutes: snapshot.minutes,
            minutes_from,
            as_of: snapshot.at,
            now,
        };
        let installed = self.cache.install(seen, &rebuilt).await?;
        if installed {
            let (total, generation) = (rebuilt.total, rebuilt.positions.generation);
            tracing::info!(total, generation, "cache rebuilt from the store");
        }
        Ok(installed)
    }

    /// Compacts writers that were closed long ago, and drops their marks. The views then drop theirs.
    async fn maintain(&self) -> Result<(), CountError> {
        let Some(age) = self.compaction_age().await? else { return Ok(()) };
        let compacted = self.totals.compact_writers(age).await?;
        if !compacted.is_empty() {
            self.cache.forget_writers(&compacted).await?;
        }
        Ok(())
    }

    async fn audit(&self) -> Result<AuditOutcome, CountError> {
        let now = self.minute();
        let start = now.back(self.window);
        let before = self.totals.snapshot(start, Duration::ZERO).await?;
        for _ in 0..AUDIT_WAITS {
            let Some(counters) = self.cache.counters().await? else { return Ok(AuditOutcome::Unknown) };
            if has_counted(&counters, &before) {
                let after = self.totals.snapshot(start, Duration::ZERO).await?;
                // A minute at the edge of the window may leave the cache between the two looks at the store.
                let drift = compare(&before, &counters, &after, now.back(self.window - 2));
                let generation = counters.generation;
                if let Some(drift) = drift {
                    return Ok(AuditOutcome::Drift { generation, drift });
                }
                self.cache.audited(&generation, self.clock.now()).await?;
                return Ok(AuditOutcome::Equal);
            }
            sleep(AUDIT_WAIT).await;
        }
        Ok(AuditOutcome::Unknown)
    }

    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CountError> {
        Ok(self.cache.mark_suspect(generation).await?)
    }
}

#[cfg(test)]
mod tests;
