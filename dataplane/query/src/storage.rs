//! How much space the store occupies, and how fast it grows.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use ping_ports::{StorageReader, StorageSizes, StoreError, TotalsStore, chain};
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::time::{Instant, sleep};

/// Pause between two measurements.
const INTERVAL: Duration = Duration::from_secs(60);
/// Pause after one that failed.
const RETRY: Duration = Duration::from_secs(5);
/// The growth is that of this time.
const MEASURED: Duration = Duration::from_secs(6 * 60 * 60);
/// The growth is not known before this time: autovacuum and checkpoints make sizes jump.
const LEAST_MEASURED: Duration = Duration::from_secs(10 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The space that the store occupied when it was measured last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageUsage {
    /// Bytes of tables and indexes.
    pub used: i64,
    /// Bytes that the write-ahead log may need beside them.
    pub wal: i64,
    /// Growth of `used` in bytes per day; `None` while it is not known.
    pub growth_per_day: Option<i64>,
}

/// The last measurement, which the answers of a server include. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct LastStorageUsage(Arc<Mutex<Option<StorageUsage>>>);

impl LastStorageUsage {
    pub(super) fn get(&self) -> Option<StorageUsage> {
        *self.0.lock()
    }
}

type ByPart = [(&'static str, &'static str); 1];

/// The metrics. Those that are not known yet are NaN.
struct StorageMetrics {
    parts: Family<ByPart, Gauge>,
    wal: Gauge,
    per_event: Gauge<f64, AtomicU64>,
    per_day: Gauge<f64, AtomicU64>,
}

impl StorageMetrics {
    fn register(registry: &mut Registry) -> Self {
        let (parts, wal) = (Family::default(), Gauge::default());
        registry.register(
            "ping_store_bytes",
            "Space that a part of the store occupies, with its indexes",
            parts.clone(),
        );
        let help = "Space that the write-ahead log of the store may need besides, by the settings of the database";
        registry.register("ping_store_wal_bytes", help, wal.clone());
        let mut unknown = |name: &str, help: &str| {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(f64::NAN);
            registry.register(name, help, gauge.clone());
            gauge
        };
        let help = "Space of the whole store per acknowledged event; NaN without events";
        let per_event = unknown("ping_store_bytes_per_event", help);
        let help = "Growth of the store per day, from the last six hours; NaN in the first ten minutes of a server";
        let per_day = unknown("ping_store_growth_bytes_per_day", help);
        Self { parts, wal, per_event, per_day }
    }

    fn set(&self, sizes: &StorageSizes, events: i64, growth: Option<f64>) {
        for (part, bytes) in &sizes.parts {
            self.parts.get_or_create(&[("part", part.as_str())]).set(*bytes);
        }
        self.wal.set(sizes.wal);
        self.per_event.set(if events > 0 { sizes.total() as f64 / events as f64 } else { f64::NAN });
        self.per_day.set(growth.unwrap_or(f64::NAN));
    }
}

/// The sizes of the last hours.
#[derive(Debug, Default)]
struct Growth(VecDeque<(Instant, i64)>);

impl Growth {
    /// Adds the size at `now`; returns the growth per day in bytes, once it is known.
    fn add(&mut self, now: Instant, size: i64) -> Option<f64> {
        self.0.push_back((now, size));
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > MEASURED) {
            self.0.pop_front();
        }
        let (first, before) = self.0.front()?;
        let time = now.duration_since(*first);
        (time >= LEAST_MEASURED).then(|| (size - before) as f64 / time.as_secs_f64() * DAY.as_secs_f64())
    }
}

/// Measures the store once per minute.
pub struct StorageWatch {
    store: Arc<dyn StorageReader>,
    totals: Arc<dyn TotalsStore>,
    metrics: StorageMetrics,
    last: LastStorageUsage,
    growth: Growth,
}

impl StorageWatch {
    /// A watch for metrics only.
    pub fn new(store: Arc<dyn StorageReader>, totals: Arc<dyn TotalsStore>, registry: &mut Registry) -> Self {
        let metrics = StorageMetrics::register(registry);
        Self { store, totals, metrics, last: LastStorageUsage::default(), growth: Growth::default() }
    }

    /// The same, which also leaves its results in `last`.
    pub(super) fn with_last(self, last: LastStorageUsage) -> Self {
        Self { last, ..self }
    }

    /// Measures until it is dropped, or at once returns if the store is in memory.
    pub async fn run(mut self) {
        loop {
            match self.measure().await {
                Ok(true) => sleep(INTERVAL).await,
                Ok(false) => return,
                // If the store is unavailable, its health check reports it.
                Err(error) => {
                    tracing::debug!(error = chain(&error), "the size of the store is not known; retrying");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// False if there is nothing to measure.
    async fn measure(&mut self) -> Result<bool, StoreError> {
        let Some(sizes) = self.store.storage_sizes().await? else { return Ok(false) };
        let events = self.totals.count(None).await?.count;
        let used = sizes.total();
        let growth = self.growth.add(Instant::now(), used);
        self.metrics.set(&sizes, events, growth);
        let growth_per_day = growth.map(|growth| growth as i64);
        *self.last.0.lock() = Some(StorageUsage { used, wal: sizes.wal, growth_per_day });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use ping_memory::{MemoryStore, SystemClock};
    use ping_ports::StoragePart;

    use super::*;

    #[test]
    fn growth_is_known_after_ten_minutes_and_follows_the_last_hours() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut growth = Growth::default();
        let mut add = |minutes, size| growth.add(at(minutes), size).map(f64::round);
        assert_eq!([add(0, 1_000), add(9, 1_900)], [None, None]);
        assert_eq!(add(10, 2_000), Some(144_000.0));
        assert_eq!(add(369, 2_000), Some(400.0), "the first size is forgotten");
        assert_eq!(add(432, 1_000), Some(-22_857.0), "a store can shrink");
    }

    /// A store that grows by a thousand bytes per measurement.
    #[derive(Default)]
    struct Growing(Mutex<i64>);

    #[async_trait]
    impl StorageReader for Growing {
        async fn storage_sizes(&self) -> Result<Option<StorageSizes>, StoreError> {
            let mut size = self.0.lock();
            *size += 1_000;
            Ok(Some(StorageSizes { parts: [(StoragePart::Events, *size)].into(), wal: 5 }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_measures_once_per_minute_and_remembers_the_last_result() {
        let totals = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let last = LastStorageUsage::default();
        let watch = StorageWatch::new(Arc::<Growing>::default(), totals.clone(), &mut Registry::default());
        let watching = tokio::spawn(watch.with_last(last.clone()).run());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(last.get(), Some(StorageUsage { used: 1_000, wal: 5, growth_per_day: None }));
        sleep(Duration::from_secs(600)).await;
        let usage = StorageUsage { used: 11_000, wal: 5, growth_per_day: Some(1_440_000) };
        assert_eq!(last.get(), Some(usage));
        watching.abort();
        StorageWatch::new(totals.clone(), totals, &mut Registry::default()).run().await;
    }
}
