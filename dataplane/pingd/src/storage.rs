//! Metrics about the space that the database occupies, and how fast it grows.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use ping_ports::chain;
use ping_postgres::{PostgresStore, StorageSizes};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// Pause between two measurements.
const INTERVAL: Duration = Duration::from_secs(60);
/// The growth is that of this time.
const MEASURED: Duration = Duration::from_secs(6 * 60 * 60);
/// The growth is not known before this time: autovacuum and checkpoints make sizes jump.
const LEAST_MEASURED: Duration = Duration::from_secs(10 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Table {
    table: String,
}

/// The metrics. Those that are not known yet are NaN.
struct StorageMetrics {
    database: Gauge,
    tables: Family<Table, Gauge>,
    per_event: Gauge<f64, AtomicU64>,
    per_day: Gauge<f64, AtomicU64>,
}

impl StorageMetrics {
    fn register(registry: &mut Registry) -> Self {
        let (database, tables) = (Gauge::default(), Family::default());
        let help = "Space that the database occupies, without write-ahead log";
        registry.register("ping_storage_database_bytes", help, database.clone());
        let help = "Space that a table occupies, with its indexes and partitions";
        registry.register("ping_storage_table_bytes", help, tables.clone());
        let mut unknown = |name: &str, help: &str| {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(f64::NAN);
            registry.register(name, help, gauge.clone());
            gauge
        };
        let per_event = unknown("ping_storage_bytes_per_event", "Space per stored event, of the whole database; NaN without events");
        let per_day = unknown(
            "ping_storage_growth_bytes_per_day",
            "Growth of the database per day, from the last six hours; NaN in the first ten minutes",
        );
        Self { database, tables, per_event, per_day }
    }

    fn set(&self, sizes: StorageSizes, growth: Option<f64>) {
        self.database.set(sizes.database);
        for (table, bytes) in sizes.tables {
            self.tables.get_or_create(&Table { table }).set(bytes);
        }
        let per_event = if sizes.events > 0 { sizes.database as f64 / sizes.events as f64 } else { f64::NAN };
        self.per_event.set(per_event);
        self.per_day.set(growth.unwrap_or(f64::NAN));
    }
}

/// Sizes of the last hours.
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

/// Measures once per minute, as one of `tasks`.
pub(crate) fn measure(tasks: &mut JoinSet<()>, registry: &mut Registry, store: Arc<PostgresStore>) {
    let metrics = StorageMetrics::register(registry);
    tasks.spawn(async move {
        let mut growth = Growth::default();
        loop {
            match store.storage_sizes().await {
                Ok(sizes) => {
                    let per_day = growth.add(Instant::now(), sizes.database);
                    metrics.set(sizes, per_day);
                }
                Err(error) => tracing::debug!(error = chain(&error), "the size of the database is not known; retrying"),
            }
            sleep(INTERVAL).await;
        }
    });
}

#[cfg(test)]
mod tests {
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
        assert_eq!(add(432, 1_000), Some(-22_857.0), "a database can shrink");
    }
}
