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

/// Why the server closes a connection: the limit of all connections, that of one address, no request for too long, answers that are not
/// read, or no TLS handshake.
pub(crate) const CLOSED: [&str; 5] = ["limit", "address_limit", "idle", "unread", "handshake"];

impl TransportMetrics {
    /// Creates the handles and registers them under `ping_transport_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        Self::register_as("ping_transport", registry)
    }

    /// Creates the handles and registers them under `prefix`, for a port that has limits of its own.
    #[must_use]
    pub fn register_as(prefix: &str, registry: &mut Registry) -> Self {
        let closed = Family::<[(&str, &str); 1], Counter>::default();
        registry.register(format!("{prefix}_closed_connections"), "Connections closed by the server", closed.clone());
        for reason in CLOSED {
            // Exports 0 for reasons that have not occurred, so that queries find every series.
            let _ = closed.get_or_create(&[("reason", reason)]);
        }
        let budget_refusals = Counter::default();
        let help = "Requests refused because the memory budget was used up";
        registry.register(format!("{prefix}_budget_refusals"), help, budget_refusals.clone());
        let mut gauge = |name: String, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            connections: gauge(format!("{prefix}_connections"), "Open connections"),
            connections_limit: gauge(format!("{prefix}_connections_limit"), "Maximum number of open connections"),
            requests: gauge(format!("{prefix}_requests"), "Requests in progress, including streams"),
            budget_used: gauge(format!("{prefix}_budget_bytes"), "Memory charged to requests in progress"),
            budget_limit: gauge(format!("{prefix}_budget_limit_bytes"), "Maximum memory of all requests together"),
            budget_refusals,
            closed,
        }
    }

    pub(crate) fn close(&self, reason: &'static str) {
        self.closed.get_or_create(&[("reason", reason)]).inc();
    }
}
