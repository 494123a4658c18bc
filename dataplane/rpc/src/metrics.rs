//! Metric handles of the API, registered once. Names end in their unit; label values are variant names.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use ping_core::EventError;

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

fn register_counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}
