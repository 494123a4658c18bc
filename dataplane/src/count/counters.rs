//! The projection of counters: total and minutes, in the cache.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;

use super::{CountError, CountSettings, LogPorts, Projection, Sums, Verdict, audit::audit, rebuild::rebuild};
use crate::{
    domain::{Clock, Generation, Minute, Positions},
    ports::{Advance, Applied, CounterCache, Flush, Ledger, LogBounds, Occurrence},
};

/// Events, all and per minute.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) total: i64,
    pub(super) minutes: HashMap<Minute, i64>,
}

impl Sums for Counts {
    fn add(&mut self, occurrence: &Occurrence) -> bool {
        *self.minutes.entry(Minute::of(occurrence.at)).or_insert(0) += 1;
        self.total += 1;
        true
    }
}

/// Keeps the counters in the cache.
pub struct Counters {
    pub(super) cache: Arc<dyn CounterCache>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) bounds: Arc<dyn LogBounds>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: CountSettings,
}

impl Counters {
    /// The cache, and the store that it is filled from and compared with.
    #[must_use]
    pub fn new(
        cache: Arc<dyn CounterCache>,
        ledger: Arc<dyn Ledger>,
        log: &LogPorts,
        settings: &CountSettings,
    ) -> Self {
        let (bounds, clock) = (Arc::clone(&log.bounds), Arc::clone(&log.clock));
        Self { cache, ledger, bounds, clock, settings: settings.clone() }
    }
}

#[async_trait]
impl Projection for Counters {
    type Sums = Counts;
    const LEADS: bool = true;

    async fn positions(&self) -> Result<Option<Positions>, CountError> {
        Ok(self.cache.positions().await?)
    }

    async fn apply(&self, advance: Advance, counts: Counts) -> Result<Applied, CountError> {
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

    async fn audit(&self) -> Result<Verdict, CountError> {
        let folded = self.ledger.fold(self.settings.fold_after).await?;
        if !folded.is_empty() {
            self.cache.forget_writers(&folded).await?;
        }
        audit(self).await
    }

    async fn doubt(&self, generation: &Generation) -> Result<(), CountError> {
        Ok(self.cache.doubt(generation).await?)
    }
}
