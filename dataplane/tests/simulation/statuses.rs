//! The cache of statuses as a process sees it: calls fail, answers get lost.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use ping_core::{Minute, StatusCounts, StatusRule};
use ping_memory::MemoryStatuses;
use ping_ports::{CacheError, CacheVersion, CachedStatus, StatusCache, StatusUpdate, StatusWatermark};
use tokio::time::sleep;

use crate::{bugs::Bug, rng::Host};

fn unavailable() -> CacheError {
    CacheError::Unavailable("the cache of statuses is unavailable (simulated)".into())
}

/// Two failed events make a source negative, three succeeded ones positive.
pub fn rule() -> StatusRule {
    StatusRule { negative_when: "failed=2".parse().unwrap(), positive_when: "succeeded=3".parse().unwrap() }
}

pub struct FaultyStatuses {
    pub host: Host,
    pub inner: Arc<MemoryStatuses>,
    /// The last counts of each source; see [`Bug::EpochsMerged`].
    pub last: Arc<Mutex<BTreeMap<Box<str>, StatusCounts>>>,
}

#[async_trait]
impl StatusCache for FaultyStatuses {
    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        self.host.call(unavailable, self.inner.get(source, now)).await
    }

    async fn merge_max(&self, version: CacheVersion, now: Minute, update: &StatusUpdate) -> Result<(), CacheError> {
        let (inner, mut update, bug) = (Arc::clone(&self.inner), update.clone(), self.host.rng.bug);
        if bug == Some(Bug::EpochsMerged) {
            let mut last = self.last.lock();
            let last = last.entry(update.source.clone()).or_default();
            *last = last.merge_max(update.counts);
            update.counts = *last;
        }
        if bug == Some(Bug::OldCountsCached) {
            // A slow server: the counts have time to change.
            sleep(self.host.rng.millis(400)).await;
        }
        let merge = async move {
            let current = inner.get(&update.source, now).await?.version;
            inner.merge_max(if bug == Some(Bug::OldCountsCached) { current } else { version }, now, &update).await
        };
        self.host.change(unavailable, merge).await
    }

    async fn invalidate(&self, sources: &[Box<str>]) -> Result<(), CacheError> {
        if self.host.rng.bug == Some(Bug::StatusesNotInvalidated) {
            return Ok(());
        }
        let (inner, sources) = (Arc::clone(&self.inner), sources.to_vec());
        self.host.change(unavailable, async move { inner.invalidate(&sources).await }).await
    }

    async fn advance_watermark(&self, watermark: &StatusWatermark) -> Result<(), CacheError> {
        self.host.call(unavailable, self.inner.advance_watermark(watermark)).await
    }

    async fn begin_epoch(&self) -> Result<(), CacheError> {
        if self.host.rng.bug == Some(Bug::EpochNotBegun) {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        self.host.change(unavailable, async move { inner.begin_epoch().await }).await
    }
}
