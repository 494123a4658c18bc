//! Metric handles of the write path, registered once. Names end in their unit; label values are variant names.

use prometheus_client::{
    metrics::{
        counter::Counter,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

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

fn register_counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}
