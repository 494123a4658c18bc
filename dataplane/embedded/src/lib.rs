//! The embedded mode, `pingd dev`: server and processor in one process over SQLite or memory.
//!
//! The log and the cache are in memory and start empty, so every start is a rebuild and exercises the recovery path. There is no
//! other code for this mode: it runs the same services as `pingd server` and `pingd processor`.

mod args;

use std::{
    fs,
    io::{self, Write},
    sync::Arc,
};

use anyhow::Context;
use ping_ingest::{IngestPorts, IngestSettings};
use ping_memory::{LoggedMinutes, MemoryCache, MemoryLog, MemoryStatuses, MemoryStore, SystemClock};
use ping_ports::{
    Clock, EventRetention, EventStore, Incarnations, LogConsumer, Outbox, QuotaStore, SourceReader, SourceViews,
    StorageReader, TotalsStore, Traces,
};
use ping_projections::{LogPorts, MinutePublisher, StatusProjection};
use ping_query::{CountQuery, RevocationQuery, SourceQuery, StatusQuery, StorageWatch};
use ping_rpc::{Queries, health};
use ping_runtime::admin::Readiness;
use ping_sqlite::SqliteStore;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use args::DevArgs;
use ping_services::{ProcessorService, ServerService, TraceExport, WritePath, args::ProcessArgs, bind, serve_admin};

/// Partitions of the in-memory log.
const PARTITIONS: u32 = 6;

/// Serves until `shutdown`, then drains.
///
/// # Errors
/// When the store cannot be opened, an address is taken, or queued events do not drain in time.
pub async fn run(args: DevArgs, process: ProcessArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    args.security.port.check(&[("--listen", args.listen), ("--admin-listen", process.admin_listen_on_loopback())])?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if args.memory {
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        return serve(args, process, Adapters::new(store, clock), shutdown).await;
    }
    fs::create_dir_all(&args.data).with_context(|| format!("cannot create the folder {}", args.data.display()))?;
    let store = Arc::new(SqliteStore::open(args.data.join("pings.db"), Arc::clone(&clock)).await?);
    serve(args, process, Adapters::new(store, clock), shutdown).await
}

/// All ports that a store of record implements.
trait Store:
    EventStore
    + Outbox
    + TotalsStore
    + SourceViews
    + SourceReader
    + QuotaStore
    + EventRetention
    + StorageReader
    + Incarnations
    + 'static
{
}

impl<S> Store for S where
    S: EventStore
        + Outbox
        + TotalsStore
        + SourceViews
        + SourceReader
        + QuotaStore
        + EventRetention
        + StorageReader
        + Incarnations
        + 'static
{
}

async fn serve<S: Store>(
    args: DevArgs,
    process: ProcessArgs,
    adapters: Adapters<S>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let mut registry = Registry::default();
    let mut tasks = JoinSet::new();
    let security = args.security.start(&mut registry, &mut tasks).await?;
    let traces = TraceExport::start(&args.traces, "ping-embedded", &mut registry)?;
    let store = Arc::clone(&adapters.store);
    health::watch(&mut tasks, &readiness, "store", move || {
        let store = Arc::clone(&store);
        async move {
            store.outbox_watermark().await?;
            // Without claims, this begins and ends a transaction that writes.
            store.settle(&[]).await
        }
    });
    let store = Arc::clone(&adapters.store);
    tasks.spawn(StorageWatch::new(store.clone(), store, &mut registry).run());
    let listener = bind(args.listen, "--listen").await?;
    let address = listener.local_addr()?;
    let server = adapters.server(&args, listener, traces.traces())?;
    let (admin, serving) = server.run(&mut registry, &readiness, shutdown, process.drain(), &security).await?;
    // The processor stops after the server, so that it counts what the server drains.
    let served = CancellationToken::new();
    let counting = adapters.processor(&args, traces.traces()).run(&mut registry, served.clone());
    let is_plain = security.tls.is_none() && args.security.port.access_policy.is_none();
    let admin_listen = process.admin_listen_on_loopback();
    serve_admin("embedded", admin_listen, readiness, registry, admin, security, &mut tasks).await?;
    greet(address, args.memory, is_plain);
    let serving = async {
        let result = serving.await;
        served.cancel();
        result
    };
    let (result, ()) = tokio::join!(serving, counting);
    traces.finish().await;
    result
}

/// The adapters of the embedded mode, shared by server and processor.
struct Adapters<S> {
    store: Arc<S>,
    log: MemoryLog,
    cache: Arc<MemoryCache>,
    statuses: Arc<MemoryStatuses>,
    clock: Arc<dyn Clock>,
}

impl<S: Store> Adapters<S> {
    fn new(store: Arc<S>, clock: Arc<dyn Clock>) -> Self {
        Self { store, log: MemoryLog::new(PARTITIONS), cache: Arc::default(), statuses: Arc::default(), clock }
    }

    fn server(&self, args: &DevArgs, listener: TcpListener, traces: Traces) -> anyhow::Result<ServerService> {
        let Self { store, log, cache, statuses, clock } = self;
        let window = args.count.settings().window;
        let ports = IngestPorts {
            store: store.clone(),
            outbox: store.clone(),
            producer: Arc::new(log.clone()),
            traces: traces.clone(),
        };
        Ok(ServerService {
            listener,
            ingest: Some(WritePath {
                ports,
                settings: IngestSettings::default(),
                quotas: store.clone(),
                name_limits: args.names.limits(),
                sources: store.clone(),
                revocations: RevocationQuery::new(args.status.rule(), store.clone(), Arc::clone(clock)),
                dead_letters: Arc::new(log.clone()),
                events: store.clone(),
                event_days: args.retention.event_days(),
            }),
            queries: Some(Queries {
                counts: CountQuery::new(cache.clone(), store.clone(), Arc::clone(clock), window)
                    .with_views(store.clone()),
                sources: SourceQuery::new(store.clone(), Arc::clone(clock), args.retention.retention()),
                statuses: StatusQuery::new(args.status.rule(), statuses.clone(), store.clone(), Arc::clone(clock)),
                labels: args.status.labels()?,
            }),
            clock: Arc::clone(clock),
            transport: args.transport.clone(),
            traces,
        })
    }

    fn processor(self, args: &DevArgs, traces: Traces) -> ProcessorService<impl LogConsumer + use<S>> {
        let Self { store, log, cache, statuses, clock } = self;
        let (bounds, producer) = (Arc::new(log.clone()), Arc::new(log.clone()));
        ProcessorService {
            cache,
            totals: store.clone(),
            views: store.clone(),
            view_reader: store.clone(),
            log: LogPorts { outbox: store.clone(), bounds, producer, incarnations: store.clone(), clock, traces },
            cache_log: log.subscribe("counts"),
            views_log: log.subscribe("views"),
            settings: args.count.settings(),
            retention: args.retention.retention(),
            events: store.clone(),
            event_days: args.retention.event_days(),
            statuses: StatusProjection { rule: args.status.rule(), cache: statuses },
            minutes: Some(MinutePublisher::new(store, Arc::new(LoggedMinutes))),
        }
    }
}

/// Prints where the API listens and what to try.
fn greet(address: std::net::SocketAddr, memory: bool, is_plain: bool) {
    let storage = if memory { "in memory; data is lost on exit" } else { "data is kept on disk" };
    if !is_plain {
        // The commands below would need files that only the user knows.
        let _ = writeln!(
            io::stdout(),
            "pingd is ready on {address} ({storage}). Callers need TLS or credentials as configured."
        );
        return;
    }
    // If standard output is closed, serve anyway.
    let _ = writeln!(
        io::stdout(),
        "pingd is ready on {address} ({storage}). Try:

  curl -X POST {address}/ping.v1.PingService/Ping -H \"Content-Type: application/json\" -d '{{\"timestamp_ms\": 1728926331000}}'
  curl -X POST {address}/ping.v1.PingService/PingCount -H \"Content-Type: application/json\" -d '{{}}'

and http://{address}/ shows the count in a browser.
"
    );
}
