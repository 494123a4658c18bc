//! TLS: the certificate that connections are answered with, and who the peer's certificate says it is.
//!
//! The files are read elsewhere. A new certificate replaces the old one for new connections; open ones keep theirs.

mod certificate;
mod config;
mod handshake;

use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use rustls::ServerConfig;

pub use certificate::PeerCertificate;
pub use config::{TlsConfig, TlsError, TlsPem};
pub(crate) use handshake::{Handshake, handshake};

/// The TLS configuration of a port. Cheap to clone; clones share the configuration.
#[derive(Clone)]
pub struct Tls {
    current: Arc<RwLock<Arc<ServerConfig>>>,
    metrics: Arc<TlsMetrics>,
}

impl Tls {
    /// Answers connections with `config`.
    #[must_use]
    pub fn new(config: TlsConfig, metrics: TlsMetrics) -> Self {
        metrics.expiry.set(config.expires);
        Self { current: Arc::new(RwLock::new(config.server)), metrics: Arc::new(metrics) }
    }

    /// Answers new connections with `config`.
    pub fn replace(&self, config: TlsConfig) {
        self.metrics.expiry.set(config.expires);
        *self.current.write() = config.server;
    }

    /// A new configuration could not be used, so the old one stays.
    pub fn count_failed_reload(&self) {
        self.metrics.reload_failures.inc();
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }
}

/// Metrics of the certificate. Clones share them.
#[derive(Clone, Debug)]
pub struct TlsMetrics {
    /// Unix time in seconds.
    expiry: Gauge,
    reload_failures: Counter,
}

impl TlsMetrics {
    /// Creates the handles and registers them under `ping_transport_tls_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let (expiry, reload_failures) = (Gauge::default(), Counter::default());
        let help = "When the server's certificate expires, in seconds since the Unix epoch";
        registry.register("ping_transport_tls_certificate_expiry_timestamp_seconds", help, expiry.clone());
        let help = "New certificates, keys or client CAs that could not be used; the old ones stay";
        registry.register("ping_transport_tls_reload_failures", help, reload_failures.clone());
        Self { expiry, reload_failures }
    }
}
