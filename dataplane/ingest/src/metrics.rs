//! Metric handles of the write path, registered once. Names end in their unit.

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// The metrics of the write path.
#[derive(Debug)]
pub struct IngestMetrics {
    /// Batches committed.
    pub batches: Counter,
    /// Events per committed batch.
    pub batch_events: Histogram,
    /// Events that were recorded before: retries.
    pub repeated: Counter,
    /// Submissions rejected because the queue was full.
    pub refused_full: Counter,
    /// Failed calls to the store.
    pub store_errors: Counter,
    /// 1 while the store has no disk space left.
    pub store_full: Gauge,
    /// Writers that were abandoned, because the store closed them or a commit got no answer.
    pub fenced: Counter,
    /// Events published to the log.
    pub published: Counter,
    /// Failed attempts to publish.
    pub publish_errors: Counter,
    /// Events published on behalf of closed writers.
    pub relayed: Counter,
}

impl IngestMetrics {
    /// Creates the handles and registers them under `ping_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let mut counter = |name: &str, help: &str| register_counter(registry, name, help);
        let batches = counter("ping_ingest_batches", "Batches committed to the store");
        let repeated = counter("ping_ingest_repeated_events", "Events already recorded under the same id (retries)");
        let refused_full =
            counter("ping_ingest_refused_full", "Submissions rejected because the ingest queue was full");
        let store_errors = counter("ping_ingest_store_errors", "Failed calls to the store");
        let fenced =
            counter("ping_ingest_fenced", "Writers abandoned after losing their lease or the answer to a commit");
        let published = counter("ping_ingest_published_events", "Events published to the log");
        let publish_errors = counter("ping_ingest_publish_errors", "Failed attempts to publish");
        let relayed = counter("ping_ingest_relayed_events", "Events published on behalf of closed writers");
        let store_full = Gauge::default();
        let help = "1 while events are refused because the store has no disk space left";
        registry.register("ping_ingest_store_full", help, store_full.clone());
        let batch_events = Histogram::new(exponential_buckets(1.0, 4.0, 8));
        registry.register("ping_ingest_batch_events", "Events per committed batch", batch_events.clone());
        Self {
            batches,
            batch_events,
            repeated,
            refused_full,
            store_errors,
            store_full,
            fenced,
            published,
            publish_errors,
            relayed,
        }
    }
}

fn register_counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}
