//! The two halves of the data plane, each over whatever adapters it is given.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use ping_dataplane::{
    count::{CountSettings, Counters, LogPorts, Minutes, Processor, Sources, Statuses},
    domain::Clock,
    health,
    ingest::{Ingest, IngestPorts, IngestSettings},
    metrics::{CountMetrics, IngestMetrics, RpcMetrics},
    ports::{CounterCache, EventSource, Ledger, Retention, SourceViews},
    rpc::{self, Answers, Api, TrustedProxies},
};
use ping_runtime::admin::{self, Readiness};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// Longest time that an event waits for company on its way into the views: a transaction for each would be a waste, and a status
/// is to change within a second. Also how often somebody looks whether a minute is over.
const VIEWS_INTERVAL: Duration = Duration::from_millis(250);

/// Pause between looks at how far the views can be: each costs a transaction that says so, and `as_of` is to be within a second.
const VIEWS_LAG: Duration = Duration::from_millis(400);

/// Binds `address`, or says what is in the way.
pub(crate) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}

/// What the server half needs.
pub(crate) struct ServerHalf {
    pub(crate) listener: TcpListener,
    /// None: it takes no events.
    pub(crate) ingest: Option<(IngestPorts, IngestSettings)>,
    /// None: it does not answer.
    pub(crate) answers: Option<Answers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) proxies: TrustedProxies,
}

impl ServerHalf {
    /// Serves until `shutdown`, then finishes what is under way, for at most `drain`.
    pub(crate) async fn run(
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

/// What the processor half needs: each projection reads the log for itself, so that neither waits for the other.
pub(crate) struct ProcessorHalf<S> {
    pub(crate) log: LogPorts,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) cache: Arc<dyn CounterCache>,
    pub(crate) cache_source: S,
    pub(crate) views: Arc<dyn SourceViews>,
    pub(crate) views_source: S,
    pub(crate) settings: CountSettings,
    pub(crate) retention: Retention,
    pub(crate) statuses: Statuses,
    pub(crate) minutes: Option<Minutes>,
}

impl<S: EventSource + 'static> ProcessorHalf<S> {
    /// Counts until `shutdown`, then flushes what it holds.
    pub(crate) fn run(self, registry: &mut Registry, shutdown: CancellationToken) -> impl Future<Output = ()> + use<S> {
        let Self { log, ledger, cache, cache_source, views, views_source, settings, retention, statuses, minutes } =
            self;
        let counters = Counters::new(cache, ledger, &log, &settings);
        let metrics = Arc::new(CountMetrics::register(registry, "ping_count"));
        let counting = Processor::new(cache_source, counters, log.clone(), settings.clone(), metrics);
        let sources = Sources::new(views, &log, retention).with(statuses).telling(minutes);
        let metrics = Arc::new(CountMetrics::register(registry, "ping_views"));
        let settings = CountSettings {
            flush_interval: settings.flush_interval.min(VIEWS_INTERVAL),
            audit_interval: VIEWS_INTERVAL,
            frontier_interval: VIEWS_LAG,
            ..settings
        };
        let viewing = Processor::new(views_source, sources, log, settings, metrics);
        async move {
            tokio::join!(counting.run(shutdown.clone()), viewing.run(shutdown));
        }
    }
}

/// Serves the admin port in the background.
pub(crate) async fn serve_admin(
    address: SocketAddr,
    readiness: Readiness,
    registry: Registry,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let listener = bind(address, "--admin-listen").await?;
    tasks.spawn(async move {
        if let Err(error) = admin::serve(listener, readiness, Arc::new(registry), CancellationToken::new()).await {
            tracing::error!(%error, "the admin port failed");
        }
    });
    Ok(())
}
