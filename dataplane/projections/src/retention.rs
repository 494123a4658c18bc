//! Applies retention to the views, once an hour.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::error::CountError;
use ping_core::{Millis, Retention, RetentionCutoffs};
use ping_ports::{Clock, SourceViews};

/// Milliseconds in an hour.
const HOUR: Millis = 60 * 60_000;

/// Deletes what the views no longer keep.
pub(super) struct RetentionTask {
    views: Arc<dyn SourceViews>,
    clock: Arc<dyn Clock>,
    retention: Retention,
    /// The hour since the Unix epoch in which retention was last applied.
    applied_hour: AtomicI64,
}

impl RetentionTask {
    pub(super) fn new(views: Arc<dyn SourceViews>, clock: Arc<dyn Clock>, retention: Retention) -> Self {
        Self { views, clock, retention, applied_hour: AtomicI64::new(0) }
    }

    /// What the views keep now.
    pub(super) fn cutoffs(&self) -> RetentionCutoffs {
        self.retention.at(self.clock.now())
    }

    /// Applies retention, unless that was done within this hour.
    pub(super) async fn apply_hourly(&self) -> Result<(), CountError> {
        let hour = self.clock.now() / HOUR;
        if self.applied_hour.load(Ordering::Relaxed) != hour {
            self.views.apply_retention(self.cutoffs()).await?;
            self.applied_hour.store(hour, Ordering::Relaxed);
        }
        Ok(())
    }
}
