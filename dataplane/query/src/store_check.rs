//! Notices that the store was restored to an earlier time, also while no processor runs.

use std::{sync::Arc, time::Duration};

use ping_core::{AheadOfStore, Generation, ahead_of_store};
use ping_ports::{CacheError, CounterCache, Outbox, StoreError, chain};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::time::sleep;

/// Pause between two checks.
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Compares what the cache has counted with what the store has. If the store lacks some of it, the cache becomes suspect: servers read the
/// store until a processor has rebuilt the cache. Until the check, answers of the cache hold for their `as_of`, because the store gives no
/// later watermark to a processor that has counted more than it has.
pub struct StoreCheck {
    cache: Arc<dyn CounterCache>,
    outbox: Arc<dyn Outbox>,
    rollbacks: Counter,
    /// The last generation that was ahead of the store.
    reported: Option<Generation>,
}

impl StoreCheck {
    /// A check of `cache` against the primary store behind `outbox`, with its metric.
    #[must_use]
    pub fn new(cache: Arc<dyn CounterCache>, outbox: Arc<dyn Outbox>, registry: &mut Registry) -> Self {
        let rollbacks = Counter::default();
        let help = "Times the store was found to lack events that the cache had counted";
        registry.register("ping_query_store_rollbacks", help, rollbacks.clone());
        Self { cache, outbox, rollbacks, reported: None }
    }

    /// Checks again and again.
    pub async fn run(mut self) {
        loop {
            // If one of them is unavailable, their health check reports it.
            if let Err(error) = self.check().await {
                tracing::debug!(error = chain(&error), "cache not compared with the store");
            }
            sleep(INTERVAL).await;
        }
    }

    async fn check(&mut self) -> Result<(), CheckError> {
        let Some(positions) = self.cache.positions().await? else { return Ok(()) };
        let counted: Vec<_> = positions.marks.highest().collect();
        let writers: Vec<_> = counted.iter().map(|(writer, _)| *writer).collect();
        let last_seqs = self.outbox.last_seqs(&writers).await?;
        if let Some(ahead) = ahead_of_store(counted, &last_seqs) {
            self.cache.mark_suspect(&positions.generation).await?;
            self.report(positions.generation, ahead);
        }
        Ok(())
    }

    fn report(&mut self, generation: Generation, ahead: AheadOfStore) {
        if self.reported.as_ref() != Some(&generation) {
            tracing::error!(%ahead, generation, "the store was restored to an earlier time: the cache is not used until it is rebuilt");
            self.rollbacks.inc();
            self.reported = Some(generation);
        }
    }
}
