//! Metric handles of the count path, registered once. Names end in their unit.

use std::{sync::atomic::AtomicU64, time::Duration};

use ping_core::Millis;
use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// The metrics of one projection.
#[derive(Debug)]
pub struct CountMetrics {
    /// Records read.
    pub records: Counter,
    /// Records that were dropped because they were counted before.
    pub duplicates: Counter,
    /// Records that cannot be counted.
    pub dead_letters: Counter,
    /// Records per flush.
    pub flush_records: Histogram,
    /// Seconds per flush.
    pub flush_seconds: Histogram,
    /// Flushes rejected because offsets or generation did not match.
    pub stale: Counter,
    /// Rebuilds from the store.
    pub rebuilds: Counter,
    /// Audits that found cache and store equal.
    pub audits: Counter,
    /// Rebuilds forced by audits that found a difference.
    pub drifts: Counter,
    /// Events by which cache and store differed at the last audit.
    pub drift_events: Gauge,
    /// Records on the assigned partitions that are not counted yet.
    pub lag_records: Gauge,
    /// The watermark, in seconds since the Unix epoch; NaN without partitions.
    as_of: Gauge<f64, AtomicU64>,
    /// Sessions interrupted by a failed call to log, cache or store.
    pub errors: Counter,
    /// Times the store was found to lack events that the projection had counted.
    pub store_rollbacks: Counter,
    /// Times the log was found not to be the one that the projection had counted.
    pub log_recreations: Counter,
    /// Records of events that the store does not have.
    pub phantoms: Counter,
    /// 1 while the cache refuses changes because it is full, else 0. Always 0 for the views, which are in the store.
    pub cache_full: Gauge,
}

impl CountMetrics {
    /// Registers the metrics of the counters: `ping_count_…`.
    #[must_use]
    pub fn of_counters(registry: &mut Registry) -> Self {
        let metrics = Self::register(registry, "ping_count");
        let help = "1 while the cache refuses changes because it is full";
        registry.register("ping_count_cache_full", help, metrics.cache_full.clone());
        metrics
    }

    /// Registers the metrics of the views: `ping_views_…`.
    #[must_use]
    pub fn of_views(registry: &mut Registry) -> Self {
        Self::register(registry, "ping_views")
    }

    fn register(registry: &mut Registry, prefix: &str) -> Self {
        let mut counter = |name: &str, help: &str| register_counter(registry, &format!("{prefix}_{name}"), help);
        let records = counter("records", "Records read from the log");
        let duplicates = counter("duplicate_records", "Records dropped because they were already counted");
        let dead_letters = counter("dead_letters", "Records that cannot be counted");
        let stale = counter("stale_flushes", "Flushes rejected because offsets did not match");
        let rebuilds = counter("rebuilds", "Rebuilds from the store");
        let audits = counter("audits", "Audits that found the counts equal to the stored events");
        let drifts = counter("drifts", "Rebuilds because two audits in a row found a difference");
        let errors = counter("errors", "Sessions interrupted by a failed call to log, cache or store");
        let store_rollbacks = counter(
            "store_rollbacks",
            "Times the store lacked events that were counted: it was restored to an earlier time",
        );
        let log_recreations =
            counter("log_recreations", "Times the log was not the one that was counted: it was created again");
        let phantoms = counter("phantom_events", "Records of events that the store does not have");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(format!("{prefix}_{name}"), help, gauge.clone());
            gauge
        };
        let drift_events =
            gauge("drift_events", "Events by which the counts differed from the stored events at the last audit");
        let lag_records = gauge("lag_records", "Records on the assigned partitions that are not counted yet");
        let as_of = Gauge::<f64, AtomicU64>::default();
        as_of.set(f64::NAN);
        let help = "Time before which every acknowledged event is counted; NaN while no partition is assigned";
        registry.register(format!("{prefix}_as_of_timestamp_seconds"), help, as_of.clone());
        let flush_records = Histogram::new(exponential_buckets(1.0, 4.0, 8));
        registry.register(format!("{prefix}_flush_records"), "Records per flush", flush_records.clone());
        let flush_seconds = Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        registry.register(format!("{prefix}_flush_seconds"), "Seconds per flush", flush_seconds.clone());
        Self {
            records,
            duplicates,
            dead_letters,
            flush_records,
            flush_seconds,
            stale,
            rebuilds,
            audits,
            drifts,
            drift_events,
            lag_records,
            as_of,
            errors,
            store_rollbacks,
            log_recreations,
            phantoms,
            cache_full: Gauge::default(),
        }
    }

    /// Everything acknowledged before `as_of` is counted.
    pub(super) fn set_as_of(&self, as_of: Millis) {
        self.as_of.set(Duration::from_millis(as_of.try_into().unwrap_or_default()).as_secs_f64());
    }

    /// Partitions are assigned at `now`. Until the first flush, the age of the count is the time since then.
    pub(super) fn assigned(&self, now: Millis) {
        if self.as_of.get().is_nan() {
            self.set_as_of(now);
        }
    }

    /// No partition is assigned: other processors know how old the count is.
    pub(super) fn idle(&self) {
        self.as_of.set(f64::NAN);
        self.lag_records.set(0);
    }
}

fn register_counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}
