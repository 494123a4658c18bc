//! The cache as a process sees it.

use std::sync::Arc;

use async_trait::async_trait;
use ping_dataplane::{
    adapters::memory::MemoryCache,
    domain::{Generation, Millis, Minute, Positions, Token, WriterId},
    ports::{Applied, CacheError, CounterCache, Counters, Flush, Image, Reading},
};
use tokio::time::sleep;

use crate::{
    bugs::Bug,
    fate::{Course, Host},
};

fn away() -> CacheError {
    CacheError("the cache is away (simulated)".into())
}

#[derive(Clone)]
pub struct FaultyCache {
    pub host: Host,
    pub inner: Arc<MemoryCache>,
}

impl FaultyCache {
    /// Makes a change that may be lost, be done without an answer, or come late.
    async fn change<T, F>(&self, change: impl Fn(Arc<MemoryCache>) -> F) -> Result<T, CacheError>
    where
        F: Future<Output = Result<T, CacheError>> + Send + 'static,
        T: Send + 'static,
    {
        self.host.pause().await;
        let change = change(Arc::clone(&self.inner));
        match self.host.course() {
            Course::Fine => {
                let answer = change.await;
                self.host.pause().await;
                answer
            }
            Course::Lost => Err(away()),
            Course::AnswerLost => {
                let _ = change.await;
                Err(away())
            }
            Course::Late(time) => {
                tokio::spawn(async move {
                    sleep(time).await;
                    let _ = change.await;
                });
                Err(away())
            }
        }
    }
}

#[async_trait]
impl CounterCache for FaultyCache {
    async fn positions(&self) -> Result<Option<Positions>, CacheError> {
        self.host.call(away, self.inner.positions()).await
    }

    async fn apply(&self, flush: &Flush) -> Result<Applied, CacheError> {
        let mut flush = flush.clone();
        if self.host.fate.bug == Some(Bug::CacheIgnoresPositions)
            && let Some(positions) = self.inner.positions().await?
        {
            for (partition, from) in &mut flush.advance.from {
                *from = positions.offsets.get(partition).copied().unwrap_or(0);
            }
            for (partition, to) in &mut flush.advance.to {
                *to = (*to).max(flush.advance.from[partition]);
            }
        }
        self.change(|inner| {
            let flush = flush.clone();
            async move { inner.apply(&flush).await }
        })
        .await
    }

    async fn install(&self, seen: Option<&Generation>, image: &Image) -> Result<bool, CacheError> {
        self.change(|inner| {
            let (seen, image) = (seen.cloned(), image.clone());
            async move { inner.install(seen.as_ref(), &image).await }
        })
        .await
    }

    async fn read(&self, minutes: Option<(Minute, Minute)>) -> Result<Option<Reading>, CacheError> {
        self.host.call(away, self.inner.read(minutes)).await
    }

    async fn has_counted(&self, token: Token) -> Result<bool, CacheError> {
        self.host.call(away, self.inner.has_counted(token)).await
    }

    async fn counters(&self) -> Result<Option<Counters>, CacheError> {
        self.host.call(away, self.inner.counters()).await
    }

    async fn doubt(&self, generation: &Generation) -> Result<(), CacheError> {
        self.host.call(away, self.inner.doubt(generation)).await
    }

    async fn audited(&self, generation: &Generation, at: Millis) -> Result<(), CacheError> {
        self.host.call(away, self.inner.audited(generation, at)).await
    }

    async fn forget_writers(&self, writers: &[WriterId]) -> Result<(), CacheError> {
        self.host.call(away, self.inner.forget_writers(writers)).await
    }
}
