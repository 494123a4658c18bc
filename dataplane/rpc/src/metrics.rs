//! Metric handles of the API, registered once. Names end in their unit; label values are variant names.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use ping_core::EventError;
use ping_identity::{AuthenticationError, Permission};

type MethodAndCode = [(&'static str, &'static str); 2];

/// Metrics of the API. The write and read paths have their own metrics.
#[derive(Debug)]
pub struct RpcMetrics {
    /// Events acknowledged, including retries.
    pub events: Counter,
    /// Events rejected by validation, by `reason`: the names of [`EventError`]'s variants.
    pub invalid: Family<[(&'static str, &'static str); 1], Counter>,
    /// Events rejected because their id is already used for different content.
    pub conflicts: Counter,
    /// Counts returned.
    pub counts: Counter,
    /// Counts read from the store of record.
    pub store_reads: Counter,
    /// Open streams of `LiveService.Watch`.
    pub watchers: Gauge,
    /// Seconds per call, by `method` and `code`: `ok`, or the code of the error.
    durations: Family<MethodAndCode, Histogram, fn() -> Histogram>,
}

impl RpcMetrics {
    /// Creates the handles and registers them under `ping_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let invalid = Family::<[(&str, &str); 1], Counter>::default();
        registry.register("ping_rpc_invalid_pings", "Events rejected by validation", invalid.clone());
        for reason in EventError::REASONS {
            // Exports 0 for reasons that have not occurred, so that queries find every series.
            let _ = invalid.get_or_create(&[("reason", reason)]);
        }
        let watchers = Gauge::default();
        registry.register("ping_rpc_watchers", "Open streams of LiveService.Watch", watchers.clone());
        // 0.5 ms to 33 s: a unary call takes at most 30 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_5, 2.0, 17));
        let durations = Family::new_with_constructor(histogram);
        let help = "Seconds per call until its answer is complete, streams included";
        registry.register("ping_rpc_request_duration_seconds", help, durations.clone());
        let mut counter = |name: &str, help: &str| register_counter(registry, name, help);
        Self {
            watchers,
            durations,
            events: counter("ping_rpc_acknowledged_pings", "Events acknowledged, including retries"),
            invalid,
            conflicts: counter(
                "ping_rpc_conflicting_pings",
                "Events rejected because their id is already used for different content",
            ),
            counts: counter("ping_rpc_counts", "Counts returned"),
            store_reads: counter("ping_rpc_store_reads", "Counts read from the store of record, not from the cache"),
        }
    }

    /// A call has ended.
    pub(super) fn observe(&self, method: &'static str, code: &'static str, duration: Duration) {
        self.durations.get_or_create(&[("method", method), ("code", code)]).observe(duration.as_secs_f64());
    }
}

fn register_counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// Counters of refused callers.
#[derive(Debug)]
pub struct AccessMetrics {
    /// Calls without valid credentials, by `reason`.
    pub(crate) unauthenticated: Family<[(&'static str, &'static str); 1], Counter>,
    /// Calls whose caller lacks a permission, by `permission`.
    pub(crate) permission_denied: Family<[(&'static str, &'static str); 1], Counter>,
}

impl AccessMetrics {
    /// Creates the handles and registers them under `ping_rpc_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let unauthenticated = Family::<[(&str, &str); 1], Counter>::default();
        let help = "Calls refused because they have no valid credentials";
        registry.register("ping_rpc_unauthenticated", help, unauthenticated.clone());
        let permission_denied = Family::<[(&str, &str); 1], Counter>::default();
        let help = "Calls refused because the caller lacks a permission";
        registry.register("ping_rpc_permission_denied", help, permission_denied.clone());
        for reason in AuthenticationError::REASONS {
            let _ = unauthenticated.get_or_create(&[("reason", reason)]);
        }
        for permission in Permission::ALL {
            let _ = permission_denied.get_or_create(&[("permission", permission.as_str())]);
        }
        Self { unauthenticated, permission_denied }
    }
}
