//! `pingd processor`: counts what the servers took.

use std::sync::Arc;

use anyhow::Context;
use ping_dataplane::{
    adapters::{
        kafka::{KafkaBounds, KafkaSink, KafkaSource},
        postgres::{PostgresOptions, PostgresStore},
        redis::RedisCache,
    },
    config::{ProcessArgs, ProcessorArgs},
    count::CountPorts,
    domain::SystemClock,
    health,
};
use ping_runtime::admin::Readiness;
use prometheus_client::registry::Registry;
use tokio::{
    task::JoinSet,
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::halves::{processor_half, serve_admin};

pub(crate) async fn run(args: ProcessorArgs, process: ProcessArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let kafka = args.kafka.settings();
    let store = Arc::new(PostgresStore::new(&args.postgres.postgres_url, &PostgresOptions::default())?);
    let ports = CountPorts {
        cache: Arc::new(RedisCache::new(&args.cache.settings())?),
        ledger: store.clone(),
        outbox: store,
        bounds: Arc::new(KafkaBounds::new(&kafka)?),
        sink: Arc::new(KafkaSink::new(&kafka)),
        clock: Arc::new(SystemClock),
    };
    let readiness = Readiness::default();
    let mut registry = Registry::default();
    let mut tasks = JoinSet::new();
    watch(&mut tasks, &readiness, &ports);
    let source = KafkaSource::new(&kafka)?;
    let counting = processor_half(source, ports, args.count.settings(), &mut registry, shutdown.clone());
    serve_admin(process.admin_listen, readiness, registry, &mut tasks).await?;
    let overdue = async {
        shutdown.cancelled().await;
        sleep(process.drain().max(Duration::from_secs(1))).await;
    };
    tokio::select! {
        () = counting => Ok(()),
        () = overdue => Err(anyhow::anyhow!("the last flush did not end in time"))
            .context("nothing is lost: the next processor goes on where the cache stands"),
    }
}

/// Everything a processor talks to.
fn watch(tasks: &mut JoinSet<()>, readiness: &Readiness, ports: &CountPorts) {
    let (outbox, bounds, cache) = (Arc::clone(&ports.outbox), Arc::clone(&ports.bounds), Arc::clone(&ports.cache));
    health::watch(tasks, readiness, "postgres", move || {
        let outbox = Arc::clone(&outbox);
        async move { outbox.frontier().await }
    });
    health::watch(tasks, readiness, "kafka", move || {
        let bounds = Arc::clone(&bounds);
        async move { bounds.bounds().await }
    });
    health::watch(tasks, readiness, "cache", move || {
        let cache = Arc::clone(&cache);
        async move { cache.read(None).await }
    });
}
