//! The projection per source: windows, days, kinds and unique sources per minute, as segments in the store.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{
    error::CountError,
    merging::MergeTask,
    minutes::MinutePublisher,
    projection::{AuditOutcome, Projection, Sums},
    retention::RetentionTask,
    settings::{CountSettings, LogPorts},
    status_cache::{StatusProjection, StatusUpdater},
    view_audit::ViewAuditor,
};
use ping_core::{Generation, Positions, Retention, RetentionCutoffs};
use ping_ports::{Advance, Applied, Clock, LogBounds, LogEvent, SourceViews, TraceStep, chain};
use ping_segments::{Changes, FormatError, Segment};

impl Sums for Changes {
    fn add(&mut self, event: &LogEvent) {
        self.add(&event.source, &event.kind, event.timestamp_ms);
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}

/// Events that are sorted, summed and compressed on the thread that also updates the counters, which must be fresh within milliseconds.
/// Each takes about a microsecond.
const MAX_INLINE_EVENTS: usize = 1_000;

/// Stores the views per source.
pub struct SourceProjection {
    views: Arc<dyn SourceViews>,
    bounds: Arc<dyn LogBounds>,
    clock: Arc<dyn Clock>,
    retention: RetentionTask,
    merging: MergeTask,
    auditor: ViewAuditor,
    statuses: Option<StatusUpdater>,
    minutes: Option<MinutePublisher>,
    /// Whether the generation that was read last holds unique sources per minute. All processors that add to it must add those
    /// too. A flush into another generation is rejected, so the flag cannot be applied to the wrong one.
    unique_sources: AtomicBool,
}

impl SourceProjection {
    /// A projection in `views`, which is rebuilt from the store's events.
    #[must_use]
    pub fn new(views: Arc<dyn SourceViews>, log: &LogPorts, settings: &CountSettings, retention: Retention) -> Self {
        let (bounds, clock) = (Arc::clone(&log.bounds), Arc::clone(&log.clock));
        Self {
            retention: RetentionTask::new(Arc::clone(&views), Arc::clone(&log.outbox), Arc::clone(&clock), retention),
            merging: MergeTask::new(Arc::clone(&views), settings.fan_in),
            auditor: ViewAuditor::new(Arc::<dyn SourceViews>::clone(&views), Arc::clone(&clock)),
            views,
            bounds,
            clock,
            statuses: None,
            minutes: None,
            unique_sources: AtomicBool::new(false),
        }
    }

    /// Also updates the cache of statuses.
    #[must_use]
    pub fn with_statuses(self, statuses: StatusProjection) -> Self {
        Self { statuses: Some(StatusUpdater::new(statuses)), ..self }
    }

    /// Also publishes closed minutes. That needs unique sources per minute, which are not kept otherwise.
    #[must_use]
    pub fn with_minutes(self, minutes: Option<MinutePublisher>) -> Self {
        Self { minutes, ..self }
    }

    fn cutoffs(&self, unique_sources: bool) -> RetentionCutoffs {
        let cutoffs = self.retention.cutoffs();
        if unique_sources { cutoffs } else { cutoffs.without_minutes() }
    }
}

/// The segments of a checkpoint.
async fn segments_of(changes: Changes, cutoffs: RetentionCutoffs) -> Result<Vec<Segment>, FormatError> {
    if changes.events().len() <= MAX_INLINE_EVENTS {
        return changes.segments(cutoffs).collect();
    }
    match spawn_blocking(move || changes.segments(cutoffs).collect()).await {
        Ok(segments) => segments,
        Err(ended) => panic::resume_unwind(ended.into_panic()),
    }
}

#[async_trait]
impl Projection for SourceProjection {
    type Sums = Changes;
    const PRIMARY: bool = false;
    const STEP: TraceStep = TraceStep::FlushViews;

    /// Rebuilds the views first, if minutes are published and the views do not hold unique sources per minute yet.
    async fn positions(&self) -> Result<Option<Positions>, CountError> {
        let mut held = self.views.positions().await?;
        if let Some(views) = held.as_ref().filter(|views| self.minutes.is_some() && !views.unique_sources) {
            self.rebuild(Some(&views.positions.generation)).await?;
            held = self.views.positions().await?;
        }
        self.unique_sources.store(held.as_ref().is_some_and(|views| views.unique_sources), Ordering::Relaxed);
        self.merging.search_again();
        // A previous processor may have counted up to these positions without updating the cache of statuses.
        if let Some(statuses) = &self.statuses {
            statuses.begin_session(held.as_ref().map(|views| &views.positions)).await;
        }
        Ok(held.map(|views| views.positions))
    }

    async fn apply(&self, advance: Advance, changes: Changes) -> Result<Applied, CountError> {
        let crossings = self.statuses.as_ref().map(|statuses| statuses.count(&changes)).unwrap_or_default();
        let cutoffs = self.cutoffs(self.unique_sources.load(Ordering::Relaxed));
        let segments = segments_of(changes, cutoffs).await?;
        let checkpoint = self.views.apply(&advance, &segments);
        let applied = match &self.statuses {
            Some(statuses) => statuses.while_held(&advance, crossings, checkpoint).await?,
            None => checkpoint.await?,
        };
        if applied != Applied::Done {
            return Ok(applied);
        }
        self.merging.added(&segments);
        let merge = self.merging.merge(&advance.generation, segments.len());
        match &self.statuses {
            Some(statuses) => {
                statuses.finish(&advance).await;
                statuses.keep_leases(merge).await;
            }
            None => merge.await,
        }
        Ok(applied)
    }

    /// In the same order as the rebuild of the counters, and for the same reason: first the ends of the log, then the rows.
    async fn rebuild(&self, seen: Option<&Generation>) -> Result<bool, CountError> {
        let bounds = self.bounds.bounds().await?;
        let ends = bounds.iter().map(|(partition, bounds)| (*partition, bounds.end)).collect();
        let cutoffs = self.cutoffs(self.minutes.is_some());
        let generation = Uuid::now_v7().to_string();
        let rebuild = self.views.rebuild(seen, &generation, &ends, cutoffs);
        let rebuilt = match &self.statuses {
            Some(statuses) => statuses.while_closed(rebuild).await?,
            None => rebuild.await?,
        };
        if rebuilt {
            tracing::info!(generation, "views per source rebuilt from the stored events");
        }
        Ok(rebuilt)
    }

    async fn maintain(&self) -> Result<(), CountError> {
        if let Some(statuses) = &self.statuses {
            statuses.renew().await;
        }
        if let Some(minutes) = &self.minutes {
            minutes.publish_closed(self.clock.now()).await;
        }
        if let Err(error) = self.views.export_rows(self.clock.now()).await {
            tracing::warn!(error = chain(&error), "tables for SQL not updated; retrying");
        }
        self.retention.apply_hourly().await;
        Ok(())
    }

    /// Called after each [`Self::maintain`], several times per second; compares what is due.
    async fn audit(&self) -> Result<AuditOutcome, CountError> {
        Ok(self.auditor.audit(self.retention.cutoffs()).await)
    }

    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CountError> {
        Ok(self.auditor.mark_suspect(generation).await?)
    }
}
