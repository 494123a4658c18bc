//! Metric handles of the transport, registered once.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Utilisation of every limit, and how often each was reached.
#[derive(Debug)]
pub struct TransportMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// The limit of `connections`.
    pub connections_limit: Gauge,
    /// Connections closed by the server, by `reason`.
    pub closed: Family<[(&'static str, &'static str); 1], Counter>,
    /// Requests in progress.
    pub requests: Gauge,
    /// Bytes held by requests.
    pub budget_used: Gauge,
    /// The limit of `budget_used`.
    pub budget_limit: Gauge,
    /// Charges refused because the budget was used up.
    pub budget_refusals: Counter,
}

/// Why the server closes a connection: the limit of all connections, that of one address, or no request for too long.
pub(crate) const CLOSED: [&str; 3] = ["limit", "address_limit", "idle"];

impl TransportMetrics {
    /// Creates the handles and registers them under `ping_transport_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let closed = Family::<[(&str, &str); 1], Counter>::default();
        registry.register("ping_transport_closed_connections", "Connections closed by the server", closed.clone());
        for reason in CLOSED {
            // Exports 0 for reasons that have not occurred, so that queries find every series.
            let _ = closed.get_or_create(&[("reason", reason)]);
        }
        let budget_refusals = Counter::default();
        let help = "Requests refused because the memory budget was used up";
        registry.register("ping_transport_budget_refusals", help, budget_refusals.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            connections: gauge("ping_transport_connections", "Open connections"),
            connections_limit: gauge("ping_transport_connections_limit", "Maximum number of open connections"),
            requests: gauge("ping_transport_requests", "Requests in progress, including streams"),
            budget_used: gauge("ping_transport_budget_bytes", "Memory charged to requests in progress"),
            budget_limit: gauge("ping_transport_budget_limit_bytes", "Maximum memory of all requests together"),
            budget_refusals,
            closed,
        }
    }

    pub(crate) fn close(&self, reason: &'static str) {
        self.closed.get_or_create(&[("reason", reason)]).inc();
    }
}
