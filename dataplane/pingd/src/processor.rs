//! `pingd processor`: consumes events from Kafka and updates the cache and the views.

use std::sync::Arc;

use crate::config::ProcessorArgs;
use anyhow::Context;
use ping_kafka::{FetchProfile, KafkaBounds, KafkaConsumer, KafkaMinutes, KafkaProducer, KafkaSettings};
use ping_memory::SystemClock;
use ping_projections::{CountSettings, LogPorts, MinutePublisher, StatusProjection};
use ping_redis::{RedisCache, RedisStatuses};
use ping_rpc::health;
use ping_runtime::admin::{Readiness, Router};
use ping_services::args::ProcessArgs;
use prometheus_client::registry::Registry;
use tokio::{
    task::JoinSet,
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;

use ping_services::{ProcessorService, TraceExport, serve_admin};

pub(crate) async fn run(args: ProcessorArgs, process: ProcessArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    args.security.check(&[("--admin-listen", process.admin_listen())])?;
    let mut registry = Registry::default();
    let traces = TraceExport::start(&args.traces, "ping-processor", &mut registry)?;
    let kafka = KafkaSettings { read_traces: traces.traces().tracer().is_some(), ..args.kafka.settings() };
    let store = Arc::new(args.postgres.store()?);
    let cache = Arc::new(RedisCache::new(&args.cache.settings())?);
    let log = LogPorts {
        outbox: store.clone(),
        bounds: Arc::new(KafkaBounds::new(&kafka)?),
        producer: Arc::new(KafkaProducer::new(&kafka)),
        incarnations: store.clone(),
        clock: Arc::new(SystemClock),
        traces: traces.traces(),
    };
    let rule = args.status.rule();
    let cached_statuses = Arc::new(RedisStatuses::new(&args.cache.settings(), &rule, args.status.status_sources)?);
    let statuses = StatusProjection { rule, cache: cached_statuses };
    let readiness = Readiness::default();
    let mut tasks = JoinSet::new();
    watch(&mut tasks, &readiness, &log, cache.clone());
    // Only the counters must be fresh within milliseconds; the views can wait for larger fetches (docs/adr/0006).
    let views = KafkaSettings { group: format!("{}-views", kafka.group), profile: FetchProfile::Bulk, ..kafka.clone() };
    let reader = store.clone();
    let processor = ProcessorService {
        log,
        totals: store.clone(),
        cache,
        cache_log: KafkaConsumer::new(&kafka)?,
        views: store.clone(),
        view_reader: store.clone(),
        views_log: KafkaConsumer::new(&views)?,
        settings: CountSettings { restore_id: args.restore_id, ..args.count.settings() },
        retention: args.retention.retention(),
        events: store,
        event_days: args.retention.event_days(),
        statuses,
        minutes: KafkaMinutes::new(&kafka).map(|topic| MinutePublisher::new(reader, Arc::new(topic))),
    };
    let counting = processor.run(&mut registry, shutdown.clone());
    let security = args.security.start(&mut registry, &mut tasks).await?;
    serve_admin("processor", process.admin_listen(), readiness, registry, Router::new(), security, &mut tasks).await?;
    let overdue = async {
        shutdown.cancelled().await;
        sleep(process.drain().max(Duration::from_secs(1))).await;
    };
    let counted = tokio::select! {
        () = counting => Ok(()),
        () = overdue => Err(anyhow::anyhow!("the last flush did not finish within --drain-seconds"))
            .context("no event is lost: the next processor continues from the positions in the cache"),
    };
    traces.finish().await;
    counted
}

/// Watches every dependency of a processor.
fn watch(tasks: &mut JoinSet<()>, readiness: &Readiness, log: &LogPorts, cache: Arc<RedisCache>) {
    let (outbox, bounds) = (Arc::clone(&log.outbox), Arc::clone(&log.bounds));
    health::watch(tasks, readiness, "postgres", move || {
        let outbox = Arc::clone(&outbox);
        async move { outbox.outbox_watermark().await }
    });
    health::watch(tasks, readiness, "kafka", move || {
        let bounds = Arc::clone(&bounds);
        async move { bounds.bounds().await }
    });
    health::watch(tasks, readiness, "cache", move || {
        let cache = Arc::clone(&cache);
        async move { cache.check().await }
    });
}
