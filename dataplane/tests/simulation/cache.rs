//! The cache as a process sees it: calls fail, answers get lost.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use ping_core::{Generation, Millis, Minute, Positions, Token, WriterId};
use ping_memory::MemoryCache;
use ping_ports::{Applied, CacheCounters, CacheError, CacheSnapshot, CounterCache, Flush, Reading};

use crate::{bugs::Bug, rng::Host};

fn unavailable() -> CacheError {
    CacheError::Unavailable("the cache is unavailable (simulated)".into())
}

#[derive(Clone)]
pub struct FaultyCache {
    pub host: Host,
    pub inner: Arc<MemoryCache>,
}

impl FaultyCache {
    /// The cache has no memory for the rest of a change. What is left counts as empty.
    async fn stop_half_way(&self, flush: Flush) -> Result<Applied, CacheError> {
        if self.host.rng.bug == Some(Bug::IncompleteCacheTrusted) {
            let positions_only = Flush { total: 0, minutes: BTreeMap::new(), ..flush };
            self.inner.apply(&positions_only).await?;
        } else {
            self.inner.clear();
        }
        Err(CacheError::Full("the cache is full (simulated)".into()))
    }
}

#[async_trait]
impl CounterCache for FaultyCache {
    async fn positions(&self) -> Result<Option<Positions>, CacheError> {
        self.host.call(unavailable, self.inner.positions()).await
    }

    async fn apply(&self, flush: &Flush) -> Result<Applied, CacheError> {
        let mut flush = flush.clone();
        if self.host.rng.bug == Some(Bug::CacheIgnoresPositions)
            && let Some(positions) = self.inner.positions().await?
        {
            for (partition, from) in &mut flush.advance.from {
                *from = positions.offsets.get(partition).copied().unwrap_or(0);
            }
            for (partition, to) in &mut flush.advance.to {
                *to = (*to).max(flush.advance.from[partition]);
            }
        }
        if self.host.rng.fault(1) {
            return self.stop_half_way(flush).await;
        }
        let inner = Arc::clone(&self.inner);
        self.host.change(unavailable, async move { inner.apply(&flush).await }).await
    }

    async fn install(&self, seen: Option<&Generation>, snapshot: &CacheSnapshot) -> Result<bool, CacheError> {
        let (inner, seen, snapshot) = (Arc::clone(&self.inner), seen.cloned(), snapshot.clone());
        self.host.change(unavailable, async move { inner.install(seen.as_ref(), &snapshot).await }).await
    }

    async fn read(&self, minutes: Option<(Minute, Minute)>) -> Result<Option<Reading>, CacheError> {
        self.host.call(unavailable, self.inner.read(minutes)).await
    }

    async fn have_counted(&self, tokens: &[Token]) -> Result<Vec<bool>, CacheError> {
        self.host.call(unavailable, self.inner.have_counted(tokens)).await
    }

    async fn counters(&self) -> Result<Option<CacheCounters>, CacheError> {
        self.host.call(unavailable, self.inner.counters()).await
    }

    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CacheError> {
        self.host.call(unavailable, self.inner.mark_suspect(generation)).await
    }

    async fn audited(&self, generation: &Generation, at: Millis) -> Result<(), CacheError> {
        self.host.call(unavailable, self.inner.audited(generation, at)).await
    }

    async fn forget_writers(&self, writers: &[WriterId]) -> Result<(), CacheError> {
        self.host.call(unavailable, self.inner.forget_writers(writers)).await
    }
}
