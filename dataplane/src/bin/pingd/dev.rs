//! `pingd dev`: server and processor in one process, over embedded stores. The log and the cache are in process and start
//! empty, so every start is a rebuild: the recovery path is exercised each time.

use std::{
    fs,
    io::{self, Write},
    sync::Arc,
};

use anyhow::Context;
use ping_dataplane::{
    adapters::{
        memory::{LoggedMinutes, MemoryCache, MemoryLog, MemoryStatuses, MemoryStore},
        sqlite::SqliteStore,
    },
    config::{DevArgs, ProcessArgs},
    count::{self, LogPorts, Minutes},
    domain::{Clock, SystemClock},
    health,
    ingest::{IngestPorts, IngestSettings},
    ports::{EventStore, Ledger, Outbox, SourceReader, SourceViews},
    query::{Reader, Sources, Statuses},
    rpc::{Answers, TrustedProxies},
};
use ping_runtime::admin::Readiness;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::halves::{ProcessorHalf, ServerHalf, bind, serve_admin};

/// Partitions of the log in process.
const PARTITIONS: u32 = 6;

pub(crate) async fn run(args: DevArgs, process: ProcessArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if args.memory {
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        return serve(args, process, store, clock, shutdown).await;
    }
    fs::create_dir_all(&args.data).with_context(|| format!("cannot make the folder {}", args.data.display()))?;
    let store = Arc::new(SqliteStore::open(args.data.join("pings.db"), Arc::clone(&clock)).await?);
    serve(args, process, store, clock, shutdown).await
}

async fn serve<S: EventStore + Outbox + Ledger + SourceViews + SourceReader + 'static>(
    args: DevArgs,
    process: ProcessArgs,
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let log = MemoryLog::new(PARTITIONS);
    let cache = Arc::new(MemoryCache::default());
    let statuses = Arc::new(MemoryStatuses::default());
    let readiness = Readiness::default();
    let mut registry = Registry::default();
    let mut tasks = JoinSet::new();
    let asked = Arc::clone(&store);
    health::watch(&mut tasks, &readiness, "store", move || {
        let store = Arc::clone(&asked);
        async move { store.frontier().await }
    });
    let settings = args.count.settings();
    let listener = bind(args.listen, "--listen").await?;
    let address = listener.local_addr()?;
    let server = ServerHalf {
        listener,
        ingest: Some((
            IngestPorts { store: store.clone(), outbox: store.clone(), sink: Arc::new(log.clone()) },
            IngestSettings::default(),
        )),
        answers: Some(Answers {
            reader: Reader::new(cache.clone(), store.clone(), Arc::clone(&clock), settings.window),
            sources: Sources::new(store.clone(), Arc::clone(&clock), args.retention.retention()),
            statuses: Statuses::new(args.status.rule(), statuses.clone(), store.clone(), Arc::clone(&clock)),
            names: args.status.names()?,
        }),
        clock: Arc::clone(&clock),
        proxies: TrustedProxies::new(args.trusted_proxies.clone()),
    };
    let serving = server.run(&mut registry, &readiness, shutdown, process.drain()).await?;
    let reader = store.clone();
    let processor = ProcessorHalf {
        cache,
        ledger: store.clone(),
        views: store.clone(),
        log: LogPorts { outbox: store, bounds: Arc::new(log.clone()), sink: Arc::new(log.clone()), clock },
        cache_source: log.subscribe("counts"),
        views_source: log.subscribe("views"),
        settings,
        retention: args.retention.retention(),
        statuses: count::Statuses { rule: args.status.rule(), cache: statuses, reader: reader.clone() },
        minutes: Some(Minutes::new(reader, Arc::new(LoggedMinutes))),
    };
    // The processor goes last: it counts what the server drains.
    let served = CancellationToken::new();
    let counting = processor.run(&mut registry, served.clone());
    serve_admin(process.admin_listen, readiness, registry, &mut tasks).await?;
    greet(address, args.memory);
    let (result, ()) = tokio::join!(
        async {
            let result = serving.await;
            served.cancel();
            result
        },
        counting
    );
    result
}

/// What to try.
fn greet(address: std::net::SocketAddr, memory: bool) {
    let kept = if memory { "nothing is kept" } else { "pings are kept on disk" };
    // Whoever closed our output does not want to read it.
    let _ = writeln!(
        io::stdout(),
        "pingd is ready on {address} ({kept}). Try:

  curl -X POST {address}/ping.v1.PingService/Ping -H \"Content-Type: application/json\" -d '{{\"timestamp_ms\": 1728926331000}}'
  curl -X POST {address}/ping.v1.PingService/PingCount -H \"Content-Type: application/json\" -d '{{}}'

and http://{address}/ shows the count in a browser.
"
    );
}
