//! Applies retention to the views, once an hour.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::clock_check::agreed_time;
use ping_core::{Millis, Minute, Retention, RetentionCutoffs};
use ping_ports::{Clock, Outbox, SourceViews, StoreError, chain};

/// Milliseconds in an hour.
const HOUR: Millis = 60 * 60_000;

/// Deletes what the views no longer keep.
pub(super) struct RetentionTask {
    views: Arc<dyn SourceViews>,
    /// Tells the time of the store.
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    retention: Retention,
    /// The hour since the Unix epoch in which retention was last applied, or refused.
    applied_hour: AtomicI64,
    /// The minute in which it last failed.
    failed_minute: AtomicI64,
}

impl RetentionTask {
    pub(super) fn new(
        views: Arc<dyn SourceViews>,
        outbox: Arc<dyn Outbox>,
        clock: Arc<dyn Clock>,
        retention: Retention,
    ) -> Self {
        Self { views, outbox, clock, retention, applied_hour: AtomicI64::new(0), failed_minute: AtomicI64::new(0) }
    }

    /// What the views keep now.
    pub(super) fn cutoffs(&self) -> RetentionCutoffs {
        self.retention.at(self.clock.now())
    }

    /// Applies retention, unless that was done within this hour. A failure is logged; what it left is deleted a minute later.
    pub(super) async fn apply_hourly(&self) {
        let now = self.clock.now();
        let (hour, minute) = (now / HOUR, Minute::of(now).0);
        if self.applied_hour.load(Ordering::Relaxed) == hour || self.failed_minute.load(Ordering::Relaxed) == minute {
            return;
        }
        match self.apply(now).await {
            Ok(()) => self.applied_hour.store(hour, Ordering::Relaxed),
            Err(error) => {
                self.failed_minute.store(minute, Ordering::Relaxed);
                tracing::warn!(error = chain(&error), "expired counts per source not deleted; retrying in a minute");
            }
        }
    }

    /// Deletes nothing while the clocks of this process and of the store differ; counting continues.
    async fn apply(&self, now: Millis) -> Result<(), StoreError> {
        match agreed_time(now, self.outbox.outbox_watermark().await?.now) {
            Ok(agreed) => self.views.apply_retention(self.retention.at(agreed)).await,
            Err(error) => {
                tracing::error!(error = chain(&error), "old counts not deleted from the views; retrying in an hour");
                Ok(())
            }
        }
    }
}
