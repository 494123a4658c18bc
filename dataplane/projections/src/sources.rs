//! The projection per source: windows, days, kinds and unique sources per minute, as segments in the store.

use std::{
    collections::BTreeMap,
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
use ping_core::{Generation, Offset, Partition, Positions, Retention, RetentionCutoffs};
use ping_ports::{Advance, Applied, Bounds, Clock, LogBounds, LogEvent, SourceViews, TraceStep, ViewPositions, chain};
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
    /// The restore that the store was started from.
    restore_id: Option<String>,
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
            restore_id: settings.restore_id.clone(),
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

    /// Rebuilds the views, with positions at `offsets` where the log has them, and otherwise at its end. In the same order as the rebuild of
    /// the counters, and for the same reason: first the ends of the log, then the rows.
    async fn rebuild_at(
        &self,
        seen: Option<&Generation>,
        offsets: &BTreeMap<Partition, Offset>,
    ) -> Result<bool, CountError> {
        let bounds = self.bounds.bounds().await?;
        let next = |(partition, bounds): (&Partition, &Bounds)| {
            let held = offsets.get(partition).filter(|next| (bounds.low..=bounds.end).contains(*next));
            (*partition, held.copied().unwrap_or(bounds.end))
        };
        let positions = bounds.iter().map(next).collect();
        let cutoffs = self.cutoffs(self.minutes.is_some());
        let generation = new_generation(self.restore_id.as_deref());
        let rebuild = self.views.rebuild(seen, &generation, &positions, cutoffs);
        let rebuilt = match &self.statuses {
            Some(statuses) => statuses.while_closed(rebuild).await?,
            None => rebuild.await?,
        };
        if rebuilt {
            tracing::info!(generation, "views per source rebuilt from the stored events");
        }
        Ok(rebuilt)
    }

    fn cutoffs(&self, unique_sources: bool) -> RetentionCutoffs {
        let cutoffs = self.retention.cutoffs();
        if unique_sources { cutoffs } else { cutoffs.without_minutes() }
    }
}

/// A new generation of the views. It names the restore that the store was started from.
fn new_generation(restore_id: Option<&str>) -> Generation {
    let id = Uuid::now_v7();
    restore_id.map_or_else(|| id.to_string(), |restore_id| format!("{id}.{restore_id}"))
}

/// Whether `generation` was built since the store was started from a backup. True if it was not.
fn is_built_since(restore_id: Option<&str>, generation: &Generation) -> bool {
    let built_since = generation.split_once('.').map(|(_, restore_id)| restore_id);
    restore_id.is_none_or(|restore_id| built_since == Some(restore_id))
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

    /// Rebuilds the views first, if minutes are published and the views do not hold unique sources per minute yet, or if they came with a
    /// backup: then their positions may be of another topic. Phantoms after these positions are still read.
    async fn positions(&self) -> Result<Option<Positions>, CountError> {
        let mut held = self.views.positions().await?;
        if let Some(ViewPositions { positions: Positions { generation, offsets, .. }, unique_sources }) = &held {
            if !is_built_since(self.restore_id.as_deref(), generation) {
                tracing::info!(
                    generation,
                    "the store was started from a backup: rebuilding the views that came with it"
                );
                self.rebuild_at(Some(generation), offsets).await?;
                held = self.views.positions().await?;
            } else if self.minutes.is_some() && !unique_sources {
                self.rebuild(Some(generation)).await?;
                held = self.views.positions().await?;
            }
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

    async fn rebuild(&self, seen: Option<&Generation>) -> Result<bool, CountError> {
        self.rebuild_at(seen, &BTreeMap::new()).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_views_that_came_with_the_last_restore_are_built_before_it() {
        let (never, first) = (new_generation(None), new_generation(Some("first")));
        assert!(is_built_since(None, &never) && is_built_since(None, &first));
        assert!(is_built_since(Some("first"), &first));
        assert!(!is_built_since(Some("first"), &never));
        assert!(!is_built_since(Some("second"), &first), "the restored pipeline was backed up and restored");
    }
}
