//! The controller: runs `reconcile` for each trigger, and observes every run in one place.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt, channel::mpsc::unbounded};
use kube::runtime::{
    Controller, Predicate, WatchStreamExt,
    controller::{Action, Config, Error},
    events::EventType,
    predicates,
    reflector::{self, Store},
    watcher::Event,
};
use ping_api::{crd::PingPipeline, names::Names};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    context::Context,
    error::chain,
    index::PipelineName,
    metrics::Outcome,
    reconcile::{ReconcileError, reconcile},
    report::{ReportError, publish_event},
    scope::Scope,
    watches::{Triggers, discover, watch},
};

/// Maximum number of concurrent reconciles.
const CONCURRENCY: u16 = 8;
/// Triggers of the same pipeline within this time cause one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Delay after the first failure. It doubles with each consecutive failure.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Longest delay after a failure.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Runs reconciles and observes them. Keeps the number of consecutive failures of each pipeline.
struct Reconciler {
    context: Arc<Context>,
    failures: Mutex<BTreeMap<PipelineName, u32>>,
}

impl Reconciler {
    /// Runs one reconcile and reports its duration and outcome as metrics, and a repeated failure as an event.
    async fn run(&self, pipeline: &PingPipeline) -> Result<Action, ReconcileError> {
        let name = PipelineName::from(Names::of(pipeline));
        let span = tracing::info_span!("reconcile", namespace = name.namespace, name = name.name);
        let (context, started) = (&self.context, Instant::now());
        context.metrics.reconcile_started(&name);
        let result = reconcile(pipeline, context).instrument(span.clone()).await;
        let outcome = result.as_ref().map_or(Outcome::Failed, |(outcome, _)| *outcome);
        context.metrics.reconcile_finished(outcome, started.elapsed());
        match result {
            Ok((_, action)) => {
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                Ok(action)
            }
            Err(error) => {
                let progress = matches!(error, ReconcileError::Report(ReportError::Apply { progress: true, .. }));
                // A single failure is often a write conflict, which the next reconcile resolves.
                if self.count_failure(name, progress) > 1 {
                    publish_event(pipeline, EventType::Warning, "ReconcileFailed", chain(&error), context)
                        .instrument(span)
                        .await;
                }
                Err(error)
            }
        }
    }

    /// Counts a failure. Returns the number of consecutive failures without progress.
    fn count_failure(&self, name: PipelineName, progress: bool) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(name).or_default();
        *count = if progress { 1 } else { *count + 1 };
        *count
    }

    /// Schedules the next attempt after a failure.
    fn retry(&self, pipeline: &PingPipeline, error: &ReconcileError) -> Action {
        let name = PipelineName::from(Names::of(pipeline));
        let delay = self.retry_delay(&name);
        tracing::debug!(namespace = name.namespace, name = name.name, error = chain(error), ?delay, "reconcile failed");
        Action::requeue(delay)
    }

    /// Forgets a pipeline that was deleted. Its teardown has done that, unless someone removed the finalizer.
    fn observe(&self, event: &Event<PingPipeline>) {
        if let Event::Delete(pipeline) = event {
            self.forget(&Names::of(pipeline).into());
        }
    }

    /// Removes everything that is kept about a pipeline that no longer exists.
    fn forget(&self, name: &PipelineName) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.context.forget(name);
    }

    fn retry_delay(&self, name: &PipelineName) -> Duration {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.get(name).copied().unwrap_or(1);
        RETRY_DELAY.saturating_mul(1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX)).min(MAX_RETRY_DELAY)
    }
}

/// Runs until `shutdown`, and lets running reconciles finish. `publish` receives the store of all pipelines.
pub async fn run(
    context: Arc<Context>,
    scope: Scope,
    shutdown: CancellationToken,
    publish: impl FnOnce(Store<PingPipeline>),
) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = discover(&context) => {}
    }
    let (store, writer) = reflector::store();
    publish(store.clone());
    let metrics = context.metrics.clone();
    let reconciler = Arc::new(Reconciler { context: context.clone(), failures: Mutex::default() });
    let changed = predicates::generation.combine(predicates::annotations).combine(predicates::finalizers);
    let pipelines = scope
        .pipelines(&context.client)
        .reflect(writer)
        .inspect({
            let reconciler = reconciler.clone();
            move |event| event.iter().for_each(|event| reconciler.observe(event))
        })
        .applied_objects()
        .predicate_filter(changed, kube::runtime::PredicateConfig::default())
        .inspect({
            let metrics = metrics.clone();
            move |pipeline| pipeline.iter().for_each(|pipeline| metrics.queued(Names::of(pipeline).into()))
        });
    let (some, some_triggers) = unbounded();
    let (all, all_triggers) = unbounded();
    let all_triggers = all_triggers.inspect({
        let (metrics, store) = (metrics.clone(), store.clone());
        move |()| store.state().iter().for_each(|pipeline| metrics.queued(Names::of(pipeline).into()))
    });
    let watches = watch(context, scope, Triggers { some, all }, shutdown.clone());
    let controller = Controller::for_stream(pipelines, store)
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .reconcile_on(some_triggers)
        .reconcile_all_on(all_triggers)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            async |pipeline, reconciler: Arc<Reconciler>| reconciler.run(&pipeline).await,
            |pipeline, error: &ReconcileError, reconciler: Arc<Reconciler>| reconciler.retry(&pipeline, error),
            reconciler.clone(),
        )
        .for_each(|result| {
            // A pipeline that was deleted while it waited is never reconciled. One that was deleted during its reconcile is noticed here again.
            if let Err(Error::ObjectNotFound(deleted)) = result {
                let deleted = PipelineName::from(&*deleted);
                metrics.dequeued(&deleted);
                reconciler.forget(&deleted);
            }
            std::future::ready(())
        });
    let (watches, controller) = (pin!(watches), pin!(controller));
    futures::future::join(watches, controller).await;
}
