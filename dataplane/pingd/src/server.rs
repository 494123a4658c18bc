//! `pingd server`: takes pings and answers counts, over Postgres, Kafka and the cache.

use std::{sync::Arc, time::Duration};

use crate::config::ServerArgs;
use ping_ingest::IngestPorts;
use ping_kafka::KafkaProducer;
use ping_memory::SystemClock;
use ping_ports::{Clock, Outbox};
use ping_postgres::{PostgresOptions, PostgresStore};
use ping_query::{CountQuery, SourceQuery, StatusQuery};
use ping_redis::{RedisCache, RedisStatuses};
use ping_rpc::{Answers, TrustedProxies, health};
use ping_runtime::admin::Readiness;
use ping_services::args::ProcessArgs;
use prometheus_client::registry::Registry;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use ping_services::{ServerService, bind, serve_admin};

/// Pause between two tries to bring the schema up to date.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: ServerArgs, process: ProcessArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::new(PostgresStore::new(&args.postgres.postgres_url, &PostgresOptions::default())?);
    let answers = if args.role.answers() { Some(answers(&args, &store, &clock)?) } else { None };
    let readiness = Readiness::default();
    let mut registry = Registry::default();
    let mut tasks = JoinSet::new();
    migrate(&mut tasks, &readiness, Arc::clone(&store));
    let asked = Arc::clone(&store);
    health::watch(&mut tasks, &readiness, "postgres", move || {
        let store = Arc::clone(&asked);
        async move { store.outbox_watermark().await }
    });
    let server = ServerService {
        listener: bind(args.listen, "--listen").await?,
        ingest: args.role.takes_events().then(|| {
            let producer = Arc::new(KafkaProducer::new(&args.kafka.settings()));
            (IngestPorts { store: store.clone(), outbox: store.clone(), producer }, args.ingest())
        }),
        answers,
        clock,
        proxies: TrustedProxies::new(args.trusted_proxies.clone()),
    };
    let serving = server.run(&mut registry, &readiness, shutdown, process.drain()).await?;
    serve_admin(process.admin_listen(), readiness, registry, &mut tasks).await?;
    serving.await
}

/// The read path: the cache first, Postgres when it is away.
fn answers(args: &ServerArgs, store: &Arc<PostgresStore>, clock: &Arc<dyn Clock>) -> anyhow::Result<Answers> {
    let (cache, rule) = (args.cache.settings(), args.status.rule());
    let held = Arc::new(RedisStatuses::new(&cache, &rule, args.status.status_sources)?);
    let window = i64::from(args.window_minutes);
    Ok(Answers {
        reader: CountQuery::new(Arc::new(RedisCache::new(&cache)?), store.clone(), Arc::clone(clock), window),
        sources: SourceQuery::new(store.clone(), Arc::clone(clock), args.retention.retention()),
        statuses: StatusQuery::new(rule, held, store.clone(), Arc::clone(clock)),
        labels: args.status.labels()?,
    })
}

/// Brings the schema up to date in the background; until then the server is not ready, and callers are told to retry.
fn migrate(tasks: &mut JoinSet<()>, readiness: &Readiness, store: Arc<PostgresStore>) {
    let readiness = readiness.clone();
    readiness.set("schema", Err("not looked at yet".into()));
    tasks.spawn(async move {
        loop {
            match store.migrate().await {
                Ok(imported) => {
                    if imported > 0 {
                        tracing::info!(imported, "rows of the table pings taken over");
                    }
                    readiness.set("schema", Ok(()));
                    return;
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!(error, "the schema is not up to date; trying again");
                    readiness.set("schema", Err(error));
                    sleep(RETRY).await;
                }
            }
        }
    });
}
