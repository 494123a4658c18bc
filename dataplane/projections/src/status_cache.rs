//! Updates the cache of statuses as events are counted.

use std::{collections::BTreeSet, mem, sync::Arc};

use tokio::sync::Mutex;

use super::error::CountError;
use ping_core::{Minute, SourceCounts, StatusRule};
use ping_ports::{Clock, SourceReader, StatusCache, StatusUpdate, StatusWatermark, chain};

/// Sources per query. Such a query takes about a millisecond, so it does not occupy one of the store's cores for long.
const SOURCES_PER_QUERY: usize = 64;

/// The cache of statuses, and what it is updated from.
pub struct StatusProjection {
    /// The rule that gives a source its status.
    pub rule: StatusRule,
    /// The cache.
    pub cache: Arc<dyn StatusCache>,
    /// The views that the cached counts are read from.
    pub reader: Arc<dyn SourceReader>,
}

impl StatusProjection {
    /// The sources in `counts` that have an event of a kind that the rule counts.
    pub(super) fn sources(&self, counts: &SourceCounts) -> BTreeSet<Box<str>> {
        let relevant = counts.kinds.keys().filter(|(_, kind)| self.rule.counts_kind(kind));
        relevant.map(|(source, _)| source.clone()).collect()
    }

    /// Raises the cached counts of `sources` to what the views say now.
    async fn update_cache(&self, sources: BTreeSet<Box<str>>, now: Minute) -> Result<(), CountError> {
        let (kinds, sources) = (self.rule.kinds(), sources.into_iter().collect::<Vec<_>>());
        for sources in sources.chunks(SOURCES_PER_QUERY) {
            let counts = self.reader.kind_counts(sources, &kinds).await?;
            let update = |(source, kinds)| {
                let counts = self.rule.counts(&kinds);
                StatusUpdate { source, counts, last: self.rule.is_final(counts) }
            };
            let updates: Vec<_> = sources.iter().cloned().zip(counts).map(update).collect();
            self.cache.merge_max(None, now, &updates).await?;
        }
        Ok(())
    }
}

/// Keeps the cache of statuses up to date. While the cache is unavailable nothing waits for it: readers then use the store.
/// Once it is back, the first call begins a new epoch, which makes readers ignore what the cache held before.
pub(super) struct StatusUpdater {
    statuses: StatusProjection,
    clock: Arc<dyn Clock>,
    /// The cache may hold counts that have changed since: begin a new epoch before anything else.
    stale: Mutex<bool>,
}

impl StatusUpdater {
    pub(super) fn new(statuses: StatusProjection, clock: Arc<dyn Clock>) -> Self {
        Self { statuses, clock, stale: Mutex::new(true) }
    }

    /// The sources in `counts` whose cached status changes.
    pub(super) fn sources(&self, counts: &SourceCounts) -> BTreeSet<Box<str>> {
        self.statuses.sources(counts)
    }

    /// Begins a new epoch: a previous processor may have counted events without updating the cache.
    pub(super) async fn begin_epoch(&self) {
        *self.stale.lock().await = true;
        self.update(BTreeSet::new(), None).await;
    }

    /// Updates the `changed` sources, then the watermark; begins a new epoch first if an earlier update failed.
    pub(super) async fn update(&self, changed: BTreeSet<Box<str>>, watermark: Option<StatusWatermark>) {
        let mut stale = self.stale.lock().await;
        let statuses = &self.statuses;
        let update = async {
            // Stays set until everything is done, also when this future is dropped half-way.
            if mem::replace(&mut *stale, true) {
                statuses.cache.begin_epoch().await?;
            }
            if !changed.is_empty() {
                statuses.update_cache(changed, Minute::of(self.clock.now())).await?;
            }
            if let Some(watermark) = watermark {
                statuses.cache.advance_watermark(&watermark).await?;
            }
            *stale = false;
            Ok::<_, CountError>(())
        };
        if let Err(error) = update.await {
            tracing::warn!(error = chain(&error), "status cache not updated; statuses are read from the store");
        }
    }
}
