//! The server over the adapters it is given.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use ping_ingest::{Ingest, IngestMetrics, IngestPorts, IngestSettings};
use ping_ports::Clock;
use ping_rpc::{self as rpc, Answers, Api, RpcMetrics, TrustedProxies, health};
use ping_runtime::admin::Readiness;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// What the server half needs.
pub struct ServerService {
    /// Accepts the API's connections.
    pub listener: TcpListener,
    /// None: it takes no events.
    pub ingest: Option<(IngestPorts, IngestSettings)>,
    /// None: it does not answer.
    pub answers: Option<Answers>,
    /// Stamps events that arrive without a time.
    pub clock: Arc<dyn Clock>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub proxies: TrustedProxies,
}

impl ServerService {
    /// Serves until `shutdown`, then finishes what is under way, for at most `drain`.
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
        let api = Api::new(ingest, self.answers, self.clock, metrics, shutdown.clone());
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
                () = overdue => tracing::warn!("some calls did not end in time"),
            }
            // The last entrance is closed now: the lanes commit and publish what they hold, then end.
            let drained = timeout(drain, async { while lanes.join_next().await.is_some() {} }).await;
            drained.context("the lanes did not drain in time; their outbox is relayed by another server")
        })
    }
}
