//! `pingd server`: accepts events and answers queries, over Postgres, Kafka and the cache.

use std::{sync::Arc, time::Duration};

use crate::config::ServerArgs;
use anyhow::Context;
use ping_ingest::IngestPorts;
use ping_kafka::{KafkaDeadLetters, KafkaProducer};
use ping_memory::SystemClock;
use ping_ports::{Clock, Outbox};
use ping_postgres::PostgresStore;
use ping_query::{CountQuery, RevocationQuery, SourceQuery, StatusQuery};
use ping_redis::{RedisCache, RedisStatuses};
use ping_rpc::{Queries, health};
use ping_runtime::admin::Readiness;
use ping_services::args::ProcessArgs;
use prometheus_client::registry::Registry;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use ping_services::{ServerService, TraceExport, WritePath, bind, serve_admin};

/// Pause between two attempts to migrate the schema.
const MIGRATE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: ServerArgs, process: ProcessArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    args.security.port.check(&[("--listen", args.listen), ("--admin-listen", process.admin_listen())])?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::new(args.postgres.store()?);
    let queries = if args.role.answers_queries() { Some(queries(&args, &store, &clock)?) } else { None };
    let readiness = Readiness::default();
    let mut registry = Registry::default();
    let mut tasks = JoinSet::new();
    if let Some(queries) = &queries {
        tasks.spawn(queries.counts.store_check(store.clone(), &mut registry).run());
        tasks.spawn(queries.counts.storage_watch(store.clone(), &mut registry).run());
    }
    let security = args.security.start(&mut registry, &mut tasks).await?;
    let traces = TraceExport::start(&args.traces, "ping-server", &mut registry)?;
    migrate(&mut tasks, &readiness, Arc::clone(&store));
    let checked = Arc::clone(&store);
    health::watch(&mut tasks, &readiness, "postgres", move || {
        let store = Arc::clone(&checked);
        async move { store.outbox_watermark().await }
    });
    let server = ServerService {
        listener: bind(args.listen, "--listen").await?,
        ingest: args.role.accepts_events().then(|| {
            let producer = Arc::new(KafkaProducer::new(&args.kafka.settings()));
            let ports = IngestPorts { store: store.clone(), outbox: store.clone(), producer, traces: traces.traces() };
            let revocations = RevocationQuery::new(args.status.rule(), store.clone(), Arc::clone(&clock));
            WritePath {
                ports,
                settings: args.ingest(),
                quotas: store.clone(),
                name_limits: args.names.limits(),
                sources: store.clone(),
                revocations,
                dead_letters: Arc::new(KafkaDeadLetters::new(args.kafka.settings())),
                events: store.clone(),
                event_days: args.retention.event_days(),
            }
        }),
        queries,
        clock,
        transport: args.transport.clone(),
        traces: traces.traces(),
    };
    let (admin, serving) = server.run(&mut registry, &readiness, shutdown, process.drain(), &security).await?;
    serve_admin("server", process.admin_listen(), readiness, registry, admin, security, &mut tasks).await?;
    let served = serving.await;
    traces.finish().await;
    served
}

/// The read path: the cache, or Postgres if the cache is unavailable.
fn queries(args: &ServerArgs, store: &Arc<PostgresStore>, clock: &Arc<dyn Clock>) -> anyhow::Result<Queries> {
    let (cache, rule) = (args.cache.settings(), args.status.rule());
    let cached_statuses = Arc::new(RedisStatuses::new(&cache, &rule, args.status.status_sources)?);
    let window = i64::from(args.window_minutes);
    let store = match &args.postgres_read_url {
        Some(url) => Arc::new(args.postgres.store_at(url).context("--postgres-read-url")?),
        None => Arc::clone(store),
    };
    Ok(Queries {
        counts: CountQuery::new(Arc::new(RedisCache::new(&cache)?), store.clone(), Arc::clone(clock), window)
            .with_views(store.clone()),
        sources: SourceQuery::new(store.clone(), Arc::clone(clock), args.retention.retention()),
        statuses: StatusQuery::new(rule, cached_statuses, store, Arc::clone(clock)),
        labels: args.status.labels()?,
    })
}

/// Migrates the schema in the background, retrying until Postgres is available. Until then the server is not ready, and calls get
/// `unavailable`.
fn migrate(tasks: &mut JoinSet<()>, readiness: &Readiness, store: Arc<PostgresStore>) {
    let readiness = readiness.clone();
    readiness.set("schema", Err("not checked yet".into()));
    tasks.spawn(async move {
        loop {
            match store.migrate().await.map_err(anyhow::Error::from) {
                Ok(imported) => {
                    if imported > 0 {
                        tracing::info!(imported, "imported rows of the existing table pings");
                    }
                    readiness.set("schema", Ok(()));
                    return;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!("{error}; retrying");
                    readiness.set("schema", Err(error));
                    sleep(MIGRATE_RETRY_INTERVAL).await;
                }
            }
        }
    });
}
