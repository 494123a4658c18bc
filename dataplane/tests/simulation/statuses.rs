//! The cache of statuses as a process sees it: calls fail, answers get lost.

use std::sync::Arc;

use async_trait::async_trait;
use ping_core::{Minute, StatusRule};
use ping_memory::MemoryStatuses;
use ping_ports::{CacheError, CacheVersion, CachedStatus, Listed, NodeStatuses, StatusCache, StatusWatermark};
use ping_segments::Node;
use tokio::time::sleep;

use crate::{bugs::Bug, clients::SOURCES, rng::Host};

fn unavailable() -> CacheError {
    CacheError::Unavailable("the cache of statuses is unavailable (simulated)".into())
}

/// Two failed events make a source negative, eight succeeded ones positive: few enough to happen, and enough that not each of them
/// invalidates the cache.
pub fn rule() -> StatusRule {
    StatusRule { negative_when: "failed=2".parse().unwrap(), positive_when: "succeeded=8".parse().unwrap() }
}

/// The sources that have statuses.
pub fn sources() -> impl Iterator<Item = String> {
    (0..SOURCES).map(|number| format!("source-{number}"))
}

pub struct FaultyStatuses {
    pub host: Host,
    pub inner: Arc<MemoryStatuses>,
}

#[async_trait]
impl StatusCache for FaultyStatuses {
    fn depth(&self) -> u32 {
        self.inner.depth()
    }

    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        self.host.call(unavailable, self.inner.get(source, now)).await
    }

    async fn fill(
        &self,
        version: CacheVersion,
        now: Minute,
        node: Node,
        statuses: &NodeStatuses,
    ) -> Result<(), CacheError> {
        let (inner, mut statuses, bug) = (Arc::clone(&self.inner), statuses.clone(), self.host.rng.bug);
        if bug == Some(Bug::NearStatusesCached) {
            statuses.listed.retain(|_, listed| *listed != Listed::Near);
        }
        let delay = self.host.rng.millis(400);
        let fill = async move {
            let mut version = version;
            if bug == Some(Bug::OldStatusesCached) {
                sleep(delay).await;
                let source = sources().find(|source| node.has(source)).unwrap_or_default();
                version = inner.get(&source, now).await?.version;
            }
            inner.fill(version, now, node, &statuses).await
        };
        self.host.change(unavailable, fill).await
    }

    async fn invalidate(&self, nodes: &[Node]) -> Result<(), CacheError> {
        if self.host.rng.bug == Some(Bug::CrossingMissed) {
            return Ok(());
        }
        let (inner, nodes) = (Arc::clone(&self.inner), nodes.to_vec());
        self.host.change(unavailable, async move { inner.invalidate(&nodes).await }).await
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
