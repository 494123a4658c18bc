//! The cache as a process sees it: calls fail, answers get lost.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use ping_core::{Generation, Millis, Minute, Positions, Token, WriterId};
use ping_memory::MemoryCache;
use ping_ports::{Applied, CacheCounters, CacheError, CacheSnapshot, CounterCache, Flush, Reading};
use tokio::time::Instant;

use crate::{bugs::Bug, rng::Host, topic::TopicOfProjection};

fn unavailable() -> CacheError {
    CacheError::Unavailable("the cache is unavailable (simulated)".into())
}

fn full() -> CacheError {
    CacheError::Full("the cache is full (simulated)".into())
}

/// Until when the cache has no memory for changes. Clones share it.
#[derive(Clone, Default)]
pub struct FullUntil(Arc<Mutex<Option<Instant>>>);

impl FullUntil {
    /// The cache is full for a while.
    pub fn fill(&self, time: Duration) {
        *self.0.lock() = Some(Instant::now() + time);
    }

    fn is_full(&self) -> bool {
        self.0.lock().is_some_and(|until| Instant::now() < until)
    }
}

#[derive(Clone)]
pub struct FaultyCache {
    pub host: Host,
    pub inner: Arc<MemoryCache>,
    pub topic: TopicOfProjection,
    pub full_until: FullUntil,
}

impl FaultyCache {
    fn installation(
        &self,
        seen: Option<&Generation>,
        snapshot: CacheSnapshot,
    ) -> impl Future<Output = Result<bool, CacheError>> + use<> {
        let (inner, seen, generation) = (Arc::clone(&self.inner), seen.cloned(), snapshot.positions.generation.clone());
        let install = async move { inner.install(seen.as_ref(), &snapshot).await };
        self.topic.rebuilt(generation, unavailable, install)
    }

    /// The cache is killed during an installation. What is left counts as empty.
    async fn kill_half_way(&self, seen: Option<&Generation>, snapshot: &CacheSnapshot) -> Result<bool, CacheError> {
        if self.host.rng.bug == Some(Bug::IncompleteInstallTrusted) {
            let positions_only = CacheSnapshot { total: 0, minutes: BTreeMap::new(), ..snapshot.clone() };
            self.installation(seen, positions_only).await?;
        } else if self.inner.positions().await?.map(|positions| positions.generation).as_ref() == seen {
            self.inner.clear();
        }
        Err(unavailable())
    }

    /// The cache has no memory for the rest of a change. What is left counts as empty.
    async fn stop_half_way(&self, flush: Flush) -> Result<Applied, CacheError> {
        if self.host.rng.bug == Some(Bug::IncompleteCacheTrusted) {
            let positions_only = Flush { total: 0, minutes: BTreeMap::new(), ..flush };
            self.inner.apply(&positions_only).await?;
        } else {
            self.inner.clear();
        }
        Err(full())
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
        let is_full = self.full_until.is_full();
        if is_full && self.host.rng.chance(80) {
            return Err(full());
        }
        if is_full || self.host.rng.fault(1) {
            return self.stop_half_way(flush).await;
        }
        let inner = Arc::clone(&self.inner);
        self.host.change(unavailable, async move { inner.apply(&flush).await }).await
    }

    async fn install(&self, seen: Option<&Generation>, snapshot: &CacheSnapshot) -> Result<bool, CacheError> {
        if self.full_until.is_full() {
            return Err(full());
        }
        if self.host.rng.fault(5) {
            return self.kill_half_way(seen, snapshot).await;
        }
        self.host.change(unavailable, self.installation(seen, snapshot.clone())).await
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
