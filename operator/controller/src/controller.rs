//! The controller: triggers in, passes out, each observed in one place.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt, channel::mpsc::unbounded};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        Controller, Predicate, WatchStreamExt,
        controller::{Action, Config},
        events::EventType,
        predicates,
        reflector::{self, Store},
        watcher::{self, watcher},
    },
};
use ping_api::{
    crd::PingPipeline,
    names::{FINALIZER, Names},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    apply::apply,
    build::build,
    context::Context,
    error::chain,
    index::PipelineName,
    metrics::Outcome,
    read::{ReadError, read, references},
    report::{ReportError, report, tell},
    status::status,
    teardown::{TeardownError, teardown},
    validate::validate,
    watches::{Scope, Triggers, discover, watch},
};

/// Passes that run at the same time.
const CONCURRENCY: u16 = 8;
/// Triggers of one pipeline within this time make one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// First delay after a failure; it doubles with each failure in a row.
const RETRY: Duration = Duration::from_millis(500);
/// Longest delay after a failure.
const RETRY_AT_MOST: Duration = Duration::from_secs(60);

/// A pass that failed. It is tried again, later each time.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing failed.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Deleting failed.
    #[error(transparent)]
    Teardown(#[from] TeardownError),
    /// The finalizer could not be set.
    #[error("cannot set the finalizer")]
    Finalizer(#[source] kube::Error),
}

/// The five steps.
///
/// # Errors
/// When the API server refuses or does not answer. Waiting for others is no error.
async fn reconcile(pipeline: &PingPipeline, context: &Context) -> Result<(Outcome, Action), PassError> {
    let refs = read(pipeline, context).await?;
    let validated = validate(pipeline, &refs);
    let desired = validated.as_ref().ok().filter(|_| !pipeline.spec.suspend).map(build);
    let applied = apply(watched(pipeline, desired, context), &refs, context).await;
    let status = status(pipeline, validated.as_ref(), &refs, &applied, Timestamp::now());
    Ok(report(pipeline, status, applied, context).await?)
}

/// Registers what this pass makes and reads, so that events on it lead back here.
fn watched(
    pipeline: &PingPipeline,
    desired: Option<crate::desired::Desired>,
    context: &Context,
) -> Option<crate::desired::Desired> {
    let mut keys = references(pipeline);
    keys.extend(desired.iter().flat_map(|desired| desired.objects.iter().map(|object| object.key.clone())));
    let names = Names::of(pipeline);
    context.index.set(&(names.namespace, names.pipeline), keys);
    desired
}

/// One pass: the way in for new pipelines, the way out for deleted ones, the five steps for the others.
///
/// # Errors
/// As `reconcile` and `teardown`.
pub async fn pass(pipeline: &PingPipeline, context: &Context) -> Result<(Outcome, Action), PassError> {
    let ours = pipeline.finalizers().iter().any(|name| name == FINALIZER);
    match (&pipeline.metadata.deletion_timestamp, ours) {
        (Some(_), true) => Ok((Outcome::Deleting, teardown(pipeline, context).await?)),
        (Some(_), false) => Ok((Outcome::Deleting, Action::await_change())),
        (None, false) => {
            set_finalizer(pipeline, context).await.map_err(PassError::Finalizer)?;
            reconcile(pipeline, context).await
        }
        (None, true) => reconcile(pipeline, context).await,
    }
}

/// The resource version makes sure that finalizers set by others in the meantime are not lost.
async fn set_finalizer(pipeline: &PingPipeline, context: &Context) -> Result<(), kube::Error> {
    let mut finalizers = pipeline.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": pipeline.resource_version() } });
    let api = Api::<PingPipeline>::namespaced(context.client.clone(), &pipeline.namespace().unwrap_or_default());
    api.patch(&pipeline.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
}

/// The controller's own state: how often each pipeline failed in a row.
struct Passes {
    context: Arc<Context>,
    failures: Mutex<BTreeMap<PipelineName, u32>>,
}

impl Passes {
    /// Runs one pass and tells how it went: duration, outcome, log, event.
    async fn observed(&self, pipeline: Arc<PingPipeline>) -> Result<Action, PassError> {
        let names = Names::of(&pipeline);
        let span = tracing::info_span!("reconcile", namespace = names.namespace, name = names.pipeline);
        let (context, began) = (&self.context, Instant::now());
        context.metrics.pass_begins();
        let result = pass(&pipeline, context).instrument(span.clone()).await;
        let outcome = result.as_ref().map_or(Outcome::Failed, |(outcome, _)| *outcome);
        context.metrics.pass_ended(outcome, began.elapsed());
        let name = (names.namespace, names.pipeline);
        match result {
            Ok((_, action)) => {
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                Ok(action)
            }
            Err(error) => {
                let progress = matches!(error, PassError::Report(ReportError::Apply { progress: true, .. }));
                let repeated = self.count_failure(name, progress);
                // A conflict is settled by the next pass, which sees what changed.
                if repeated > 1 {
                    tell(&pipeline, EventType::Warning, "ReconcileFailed", chain(&error), context)
                        .instrument(span)
                        .await;
                }
                Err(error)
            }
        }
    }

    /// How often it failed in a row without getting anywhere.
    fn count_failure(&self, name: PipelineName, progress: bool) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(name).or_default();
        *count = if progress { 1 } else { *count + 1 };
        *count
    }

    fn delay(&self, pipeline: &PingPipeline) -> Duration {
        let names = Names::of(pipeline);
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.get(&(names.namespace, names.pipeline)).copied().unwrap_or(1);
        RETRY.saturating_mul(1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX)).min(RETRY_AT_MOST)
    }
}

/// Runs until `shutdown`, and lets passes that have begun end. `publish` gets the store of all pipelines.
pub async fn run(
    context: Arc<Context>,
    scope: Scope,
    shutdown: CancellationToken,
    publish: impl FnOnce(Store<PingPipeline>),
) {
    let api: Api<PingPipeline> = match &scope {
        Scope::Cluster => Api::all(context.client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(context.client.clone(), namespace),
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = discover(&context) => {}
    }
    let (store, writer) = reflector::store();
    publish(store.clone());
    let changed = predicates::generation.combine(predicates::annotations).combine(predicates::finalizers);
    let pipelines = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(changed, kube::runtime::PredicateConfig::default());
    let (some, some_triggers) = unbounded();
    let (all, all_triggers) = unbounded();
    let watches = watch(context.clone(), scope, Triggers { some, all }, shutdown.clone());
    let passes = Arc::new(Passes { context, failures: Mutex::default() });
    let controller = Controller::for_stream(pipelines, store)
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .reconcile_on(some_triggers)
        .reconcile_all_on(all_triggers)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            async |pipeline, passes: Arc<Passes>| passes.observed(pipeline).await,
            |pipeline, error: &PassError, passes: Arc<Passes>| retry(&pipeline, error, &passes),
            passes,
        )
        .for_each(async |_| ());
    let (watches, controller) = (pin!(watches), pin!(controller));
    futures::future::join(watches, controller).await;
}

fn retry(pipeline: &PingPipeline, error: &PassError, passes: &Passes) -> Action {
    let delay = passes.delay(pipeline);
    let names = Names::of(pipeline);
    tracing::debug!(
        namespace = names.namespace,
        name = names.pipeline,
        kind = %PingPipeline::kind(&()),
        error = chain(error),
        ?delay,
        "a pass failed"
    );
    Action::requeue(delay)
}
