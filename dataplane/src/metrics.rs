//! Metric handles, one struct per path, registered once. Names end in their unit; label values are variant names.

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::domain::EventError;

/// What the write path counts.
#[derive(Debug)]
pub struct IngestMetrics {
    /// Batches committed.
    pub batches: Counter,
    /// Events per committed batch.
    pub batch_events: Histogram,
    /// Events whose id was in the store before.
    pub repeated: Counter,
    /// Submissions turned away because the queue was full.
    pub refused_full: Counter,
    /// Calls of the store that failed.
    pub store_errors: Counter,
    /// Times a lane had to start over under a new writer.
    pub fenced: Counter,
    /// Events the log has acknowledged.
    pub published: Counter,
    /// Rounds of publishing that failed.
    pub publish_errors: Counter,
    /// Events published on behalf of writers that are gone.
    pub relayed: Counter,
}

impl IngestMetrics {
    /// Creates the handles and registers them under `ping_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let mut counter = |name: &str, help: &str| register_counter(registry, name, help);
        let batches = counter("ping_ingest_batches", "Batches committed to the store");
        let repeated = counter("ping_ingest_repeated_events", "Events whose id was in the store before: retries");
        let refused_full = counter("ping_ingest_refused_full", "Submissions turned away because the queue was full");
        let store_errors = counter("ping_ingest_store_errors", "Calls of the store that failed");
        let fenced = counter("ping_ingest_fenced", "Times a lane had to start over under a new writer");
        let published = counter("ping_ingest_published_events", "Events the log has acknowledged");
        let publish_errors = counter("ping_ingest_publish_errors", "Rounds of publishing that failed");
        let relayed = counter("ping_ingest_relayed_events", "Events published on behalf of writers that are gone");
        let batch_events = Histogram::new(exponential_buckets(1.0, 4.0, 8));
        registry.register("ping_ingest_batch_events", "Events per committed batch", batch_events.clone());
        Self { batches, batch_events, repeated, refused_full, store_errors, fenced, published, publish_errors, relayed }
    }
}

/// What the API counts. No labels but the reason of a refusal: the paths behind it have their own metrics.
#[derive(Debug)]
pub struct RpcMetrics {
    /// Pings acknowledged, retries included.
    pub pings: Counter,
    /// Pings refused because of what they say, by `reason`: the names of [`EventError`]'s variants.
    pub invalid: Family<[(&'static str, &'static str); 1], Counter>,
    /// Pings refused because their id stands for something else.
    pub conflicts: Counter,
    /// Counts answered.
    pub counts: Counter,
    /// Counts answered by the store of record.
    pub store_reads: Counter,
}

impl RpcMetrics {
    /// Creates the handles and registers them under `ping_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let invalid = Family::<[(&str, &str); 1], Counter>::default();
        registry.register("ping_rpc_invalid_pings", "Pings refused because of what they say", invalid.clone());
        for reason in EventError::REASONS {
            // A reason that nobody gave yet is a 0, not a gap.
            let _ = invalid.get_or_create(&[("reason", reason)]);
        }
        let mut counter = |name: &str, help: &str| register_counter(registry, name, help);
        Self {
            pings: counter("ping_rpc_acknowledged_pings", "Pings acknowledged, retries included"),
            invalid,
            conflicts: counter(
                "ping_rpc_conflicting_pings",
                "Pings refused because their id stands for something else",
            ),
            counts: counter("ping_rpc_counts", "Counts answered"),
            store_reads: counter("ping_rpc_store_reads", "Counts answered by the store of record, not the cache"),
        }
    }
}

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
