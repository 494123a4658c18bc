//! The server over any adapters.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use ping_ingest::{Ingest, IngestMetrics, IngestPorts, IngestSettings};
use ping_ports::Clock;
use ping_rpc::{self as rpc, Api, Queries, RpcMetrics, TrustedProxies, health};
use ping_runtime::admin::Readiness;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// The server.
pub struct ServerService {
    /// Accepts the API's connections.
    pub listener: TcpListener,
    /// The write path; none if the server does not accept events.
    pub ingest: Option<(IngestPorts, IngestSettings)>,
    /// The read path; none if the server does not answer queries.
    pub queries: Option<Queries>,
    /// The time of events that arrive without one.
    pub clock: Arc<dyn Clock>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub proxies: TrustedProxies,
}

impl ServerService {
    /// Starts the write path. The returned future serves until `shutdown`, then finishes in-flight calls within `drain`, then
    /// commits and publishes queued events within another `drain`.
    ///
    /// # Errors
    /// The future fails when the API cannot be served, or the lanes do not drain in time.
    pub async fn run(
        self,
        registry: &mut Registry,
        readiness: &Readiness,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
        let mut lanes = JoinSet::new();
        let ingest = self.ingest.map(|(ports, settings)| {
            Ingest::start(ports, settings, Arc::new(IngestMetrics::register(registry)), &mut lanes)
        });
        let metrics = Arc::new(RpcMetrics::register(registry));
        let api = Api::new(ingest, self.queries, self.clock, metrics, shutdown.clone());
        let (reporter, service) = tonic_health::server::health_reporter();
        let mut watchers = JoinSet::new();
        health::report(&mut watchers, readiness, reporter);
        let (listener, proxies) = (self.listener, self.proxies);
        Ok(async move {
            let _watchers = watchers;
            let serving = rpc::serve(listener, api, proxies, service, shutdown.clone());
            let overdue = async {
                shutdown.cancelled().await;
                tokio::time::sleep(drain).await;
            };
            tokio::select! {
                served = serving => served?,
                () = overdue => tracing::warn!("some calls did not finish within --drain-seconds"),
            }
            // All lane handles are dropped now, so the lanes commit and publish what they hold, then end.
            let drained = timeout(drain, async { while lanes.join_next().await.is_some() {} }).await;
            drained
                .context("the write lanes did not drain in time; another server publishes what is left in their outbox")
        })
    }
}
