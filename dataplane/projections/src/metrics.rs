//! Metric handles of the count path, registered once. Names end in their unit; label values are variant names.

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// What the count path counts.
#[derive(Debug)]
pub struct CountMetrics {
    /// Records read.
    pub records: Counter,
    /// Records that were counted before.
    pub duplicates: Counter,
    /// Records set aside.
    pub dead_letters: Counter,
    /// Records per flush.
    pub flush_records: Histogram,
    /// Seconds per flush.
    pub flush_seconds: Histogram,
    /// Flushes that the cache refused because it stood elsewhere.
    pub stale: Counter,
    /// Fillings of the cache from the store.
    pub rebuilds: Counter,
    /// Audits that found cache and store equal.
    pub audits: Counter,
    /// Audits that found a difference.
    pub drifts: Counter,
    /// Events by which cache and store differed at the last audit.
    pub drift_events: Gauge,
    /// Records between what was counted and the end of the assigned partitions.
    pub lag_records: Gauge,
    /// Milliseconds between now and the time up to which everything acknowledged is counted.
    pub lag_ms: Gauge,
    /// Calls of log, cache or store that failed.
    pub errors: Counter,
}

impl CountMetrics {
    /// Creates the handles and registers them under `prefix`: `ping_count` for the counters, `ping_views` for the views.
    #[must_use]
    pub fn register(registry: &mut Registry, prefix: &str) -> Self {
        let mut counter = |name: &str, help: &str| register_counter(registry, &format!("{prefix}_{name}"), help);
        let records = counter("records", "Records read from the log");
        let duplicates = counter("duplicate_records", "Records dropped because they were counted before");
        let dead_letters = counter("dead_letters", "Records set aside because they cannot be counted");
        let stale = counter("stale_flushes", "Flushes refused because the positions were elsewhere");
        let rebuilds = counter("rebuilds", "Fillings from the store");
        let audits = counter("audits", "Audits that found cache and store equal");
        let drifts = counter("drifts", "Audits that found cache and store different");
        let errors = counter("errors", "Calls of log, cache or store that failed");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(format!("{prefix}_{name}"), help, gauge.clone());
            gauge
        };
        let drift_events = gauge("drift_events", "Events by which cache and store differed at the last audit");
        let lag_records = gauge("lag_records", "Records not counted yet on the assigned partitions");
        let lag_ms = gauge("lag_milliseconds", "Age of the time up to which everything is counted");
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
            lag_ms,
            errors,
        }
    }
}

fn register_counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}
