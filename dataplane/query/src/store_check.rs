//! Notices that the store was restored to an earlier time, also while no processor runs.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use ping_core::{AheadOfStore, Generation, ahead_of_store};
use ping_ports::{CacheError, CounterCache, Outbox, StoreError, chain};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::time::sleep;

/// Pause between two checks.
const INTERVAL: Duration = Duration::from_millis(500);

/// The generation of the cache that has counted what the store does not have. Clones share it. A server keeps it in memory, because it may
/// not write to the counters.
#[derive(Clone, Default)]
pub(super) struct RolledBack(Arc<Mutex<Option<Generation>>>);

impl RolledBack {
    pub(super) fn is(&self, generation: &Generation) -> bool {
        self.0.lock().as_ref() == Some(generation)
    }

    /// False if it was known.
    fn set(&self, generation: &Generation) -> bool {
        self.0.lock().replace(generation.clone()).as_ref() != Some(generation)
    }
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Compares what the cache has counted with what the store has. If the store lacks some of it, queries read the store until a processor has
/// rebuilt the cache. Until the check, answers of the cache hold for their `as_of`, because the store gives no later watermark to a
/// processor that has counted more than it has.
pub struct StoreCheck {
    cache: Arc<dyn CounterCache>,
    outbox: Arc<dyn Outbox>,
    rolled_back: RolledBack,
    rollbacks: Counter,
}

impl StoreCheck {
    pub(super) fn new(
        cache: Arc<dyn CounterCache>,
        outbox: Arc<dyn Outbox>,
        rolled_back: RolledBack,
        registry: &mut Registry,
    ) -> Self {
        let rollbacks = Counter::default();
        let help = "Times the store was found to lack events that the cache had counted";
        registry.register("ping_query_store_rollbacks", help, rollbacks.clone());
        Self { cache, outbox, rolled_back, rollbacks }
    }

    /// Checks every half second.
    pub async fn run(self) {
        loop {
            // If one of them is unavailable, their health check reports it.
            if let Err(error) = self.check().await {
                tracing::debug!(error = chain(&error), "cache not compared with the store");
            }
            sleep(INTERVAL).await;
        }
    }

    async fn check(&self) -> Result<(), CheckError> {
        let Some(positions) = self.cache.positions().await? else { return Ok(()) };
        let counted: Vec<_> = positions.marks.highest().collect();
        let writers: Vec<_> = counted.iter().map(|(writer, _)| *writer).collect();
        let last_seqs = self.outbox.last_seqs(&writers).await?;
        if let Some(ahead) = ahead_of_store(counted, &last_seqs) {
            self.report(&positions.generation, ahead);
        }
        Ok(())
    }

    fn report(&self, generation: &Generation, ahead: AheadOfStore) {
        if self.rolled_back.set(generation) {
            tracing::error!(%ahead, generation, "the store was restored to an earlier time: the cache is not used until it is rebuilt");
            self.rollbacks.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ping_core::{Event, Mark, Marks, Minute, Positions, Seq, WriterId};
    use ping_memory::{MemoryCache, MemoryStore, SystemClock};
    use ping_ports::{Batch, CacheSnapshot, EventStore};
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::*;
    use crate::{CountQuery, CountRequest, ServedBy};

    const LEASE: Duration = Duration::from_secs(60);

    /// A store with one event.
    async fn stored(store: &MemoryStore) -> WriterId {
        let writer = store.open_writer(LEASE).await.unwrap();
        let (source, kind) = ("".into(), "".into());
        let event = Event { id: Uuid::from_u128(1), timestamp_ms: 0, timestamp_assumed: false, source, kind };
        let events = Arc::new(vec![event]);
        let batch = Batch { writer, first_seq: 1, events, partitions: 1, partition: 0, lease: LEASE };
        store.commit(&batch).await.unwrap();
        writer
    }

    /// A cache that has counted this many events of the writer.
    fn counted(generation: &str, writer: WriterId, events: Seq) -> CacheSnapshot {
        let mark = Mark { base: events, partitions: BTreeMap::new() };
        let marks = Marks([(writer, mark)].into());
        CacheSnapshot {
            positions: Positions { generation: generation.into(), offsets: [(0, events)].into(), marks },
            total: events,
            minutes: BTreeMap::new(),
            minutes_from: Minute(0),
            as_of: 1,
            now: Minute(0),
        }
    }

    #[tokio::test]
    async fn a_cache_ahead_of_the_store_is_not_used_until_it_is_rebuilt() {
        let (store, cache) = (Arc::new(MemoryStore::new(Arc::new(SystemClock))), Arc::new(MemoryCache::default()));
        let queries = CountQuery::new(cache.clone(), store.clone(), Arc::new(SystemClock), 60);
        let check = queries.store_check(store.clone(), &mut Registry::default());
        let count = async || {
            let response = queries.count(CountRequest::default(), Instant::now()).await.unwrap();
            (response.count, response.served_by)
        };
        check.check().await.unwrap();
        let writer = stored(&store).await;
        cache.install(None, &counted("g", writer, 3)).await.unwrap();
        assert_eq!(count().await, (3, ServedBy::Cache));
        check.check().await.unwrap();
        check.check().await.unwrap();
        assert_eq!((count().await, check.rollbacks.get()), ((1, ServedBy::Store), 1));
        cache.install(Some(&"g".into()), &counted("h", writer, 1)).await.unwrap();
        check.check().await.unwrap();
        assert_eq!((count().await, check.rollbacks.get()), ((1, ServedBy::Cache), 1));
    }
}
