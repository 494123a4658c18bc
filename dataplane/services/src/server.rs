//! The server over any adapters.

use std::{sync::Arc, time::Duration};

use crate::{Security, args::TransportArgs};
use anyhow::Context;
use ping_ingest::{AcceptedIds, Ingest, IngestMetrics, IngestPorts, IngestSettings};
use ping_ports::{Clock, DeadLetterReader, EventRetention, QuotaStore, SourceReader, Traces};
use ping_query::RevocationQuery;
use ping_quota::{NameLimits, QuotaLimiter, QuotaMetrics};
use ping_rpc::{self as rpc, Admin, Api, Health, Queries, Revocations, RpcMetrics};
use ping_runtime::admin::{Readiness, Router};
use ping_transport::{Transport, TransportMetrics};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// What a server needs that accepts events.
pub struct WritePath {
    /// Where events go.
    pub ports: IngestPorts,
    /// How they get there.
    pub settings: IngestSettings,
    /// Where servers share the quotas of callers.
    pub quotas: Arc<dyn QuotaStore>,
    /// Limits of names that hold for all callers.
    pub name_limits: NameLimits,
    /// The sources that there are.
    pub sources: Arc<dyn SourceReader>,
    /// The negative statuses that can be revoked.
    pub revocations: RevocationQuery,
    /// The records of the log that are counted nowhere.
    pub dead_letters: Arc<dyn DeadLetterReader>,
    /// Knows which events are no longer kept.
    pub events: Arc<dyn EventRetention>,
    /// Days for which events are kept; `None` keeps all of them.
    pub event_days: Option<i64>,
}

/// The server.
pub struct ServerService {
    /// Accepts the API's connections.
    pub listener: TcpListener,
    /// The write path; none if the server does not accept events.
    pub ingest: Option<WritePath>,
    /// The read path; none if the server does not answer queries.
    pub queries: Option<Queries>,
    /// The time of events that arrive without one.
    pub clock: Arc<dyn Clock>,
    /// The limits of connections and requests.
    pub transport: TransportArgs,
    /// Starts spans of calls.
    pub traces: Traces,
}

impl ServerService {
    /// Starts the write path, and returns what the server adds to the admin port. The returned future serves until `shutdown`, then
    /// finishes in-flight calls within `drain`, then commits and publishes queued events within another `drain`.
    ///
    /// # Errors
    /// The future fails when the API cannot be served, or the lanes do not drain in time.
    pub async fn run(
        self,
        registry: &mut Registry,
        readiness: &Readiness,
        shutdown: CancellationToken,
        drain: Duration,
        security: &Security,
    ) -> anyhow::Result<(Router, impl Future<Output = anyhow::Result<()>> + use<>)> {
        let (mut lanes, mut watchers) = (JoinSet::new(), JoinSet::new());
        let counts = self.queries.as_ref().map(|queries| queries.counts.clone());
        let metrics = Arc::new(RpcMetrics::register(registry));
        let (api, revocations, dead_letters) = match self.ingest {
            None => (Api::new(None, self.queries, self.clock, metrics, shutdown.clone()), None, None),
            Some(path) => {
                let accepted = AcceptedIds::follow(path.events, path.event_days, &mut watchers);
                let ingest_metrics = Arc::new(IngestMetrics::register(registry));
                let ingest = Ingest::start(path.ports, path.settings, ingest_metrics, &mut lanes);
                let limiter = QuotaLimiter::start(path.quotas, QuotaMetrics::register(registry), &mut lanes);
                let (limiter, sources) = limiter.with_name_limits(path.name_limits, path.sources, registry);
                watchers.spawn(sources.run());
                let clock = Arc::clone(&self.clock);
                let revocations = Revocations { query: path.revocations, ingest: ingest.downgrade(), clock };
                let api = Api::new(Some(ingest), self.queries, self.clock, metrics, shutdown.clone());
                (api.with_quotas(limiter).with_accepted_ids(accepted), Some(revocations), Some(path.dead_letters))
            }
        };
        let api = api.with_database(readiness.clone()).with_traces(self.traces);
        let admin = Admin::service(counts, revocations, dead_letters);
        let admin = Router::new().route_service("/ping.v1.AdminService/{method}", admin);
        let health = Health::report(&mut watchers, readiness);
        let metrics = Arc::new(TransportMetrics::register(registry));
        let transport = Transport::new(self.transport.settings(), self.transport.proxies(), metrics);
        let (transport, access) = (transport.with_tls(security.tls.clone()), security.access.clone());
        let listener = self.listener;
        let serving = async move {
            let _watchers = watchers;
            let serving = rpc::serve(listener, api, &health, &access, transport, shutdown.clone());
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
        };
        Ok((admin, serving))
    }
}
