//! The projection per source: windows, days and kinds, in tables of the store.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;

use super::{CountError, LogPorts, Projection, Sums, Verdict};
use crate::{
    domain::{Clock, Generation, Millis, Positions},
    ports::{Advance, Applied, Kept, LogBounds, Occurrence, Retention, SourceCounts, SourceViews},
};

/// Milliseconds in an hour.
const HOUR: Millis = 60 * 60_000;

impl Sums for SourceCounts {
    fn add(&mut self, occurrence: &Occurrence) -> bool {
        self.add(&occurrence.source, &occurrence.kind, occurrence.at)
    }
}

/// Keeps the views per source.
pub struct Sources {
    views: Arc<dyn SourceViews>,
    bounds: Arc<dyn LogBounds>,
    clock: Arc<dyn Clock>,
    retention: Retention,
    /// The hour in which they were tidied last.
    tidied: AtomicI64,
}

impl Sources {
    /// The views, and the log they are made of.
    #[must_use]
    pub fn new(views: Arc<dyn SourceViews>, log: &LogPorts, retention: Retention) -> Self {
        let (bounds, clock) = (Arc::clone(&log.bounds), Arc::clone(&log.clock));
        Self { views, bounds, clock, retention, tidied: AtomicI64::new(0) }
    }

    fn kept(&self) -> Kept {
        self.retention.at(self.clock.now())
    }
}

#[async_trait]
impl Projection for Sources {
    type Sums = SourceCounts;
    const LEADS: bool = false;

    async fn positions(&self) -> Result<Option<Positions>, CountError> {
        Ok(self.views.positions().await?)
    }

    async fn apply(&self, advance: Advance, counts: SourceCounts) -> Result<Applied, CountError> {
        Ok(self.views.apply(&advance, &self.kept().keep(counts)).await?)
    }

    /// In the order of the cache's rebuild, and for the same reason: the ends of the log first, then the rows.
    async fn rebuild(&self, seen: Option<&Generation>) -> Result<bool, CountError> {
        let bounds = self.bounds.bounds().await?;
        let ends = bounds.iter().map(|(partition, bounds)| (*partition, bounds.end)).collect();
        let rebuilt = self.views.rebuild(seen, &ends, self.kept()).await?;
        if rebuilt {
            tracing::info!("views per source rebuilt from the rows");
        }
        Ok(rebuilt)
    }

    /// Comparing would take every row: `make oracle` does it. What is too old goes.
    async fn audit(&self) -> Result<Verdict, CountError> {
        let hour = self.clock.now() / HOUR;
        if self.tidied.swap(hour, Ordering::Relaxed) != hour {
            self.views.tidy(self.kept()).await?;
        }
        Ok(Verdict::Unknown)
    }

    /// Nobody is warned: nothing finds these wrong.
    async fn doubt(&self, _: &Generation) -> Result<(), CountError> {
        Ok(())
    }
}
