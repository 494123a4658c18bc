//! The end of a reconcile: writes the status if it changed, publishes events, and schedules the next reconcile.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use ping_api::{
    condition::ConditionType,
    crd::{PingPipeline, status::PingPipelineStatus},
    names::Names,
    reason::Reason,
};
use serde_json::json;

use crate::{
    apply::{Applied, ApplyError, Change, server_side},
    condition::find,
    context::Context,
    error::chain,
    gauges,
    metrics::Outcome,
};

/// Interval between reconciles while waiting for other operators, in the first minute. They may be slow, or report nothing.
const WAITING: Duration = Duration::from_secs(15);
/// Length of the first phase of waiting, in seconds.
const FIRST_MINUTE: i64 = 60;
/// Interval for a ready pipeline, and for one that has waited for longer. Watches trigger reconciles earlier; this catches what no watch
/// sees.
const SETTLED: Duration = Duration::from_secs(600);
/// Interval if the pipeline depends on what the operator does not watch: Secrets in another namespace, the keys that sign ServiceAccount tokens,
/// or something to be corrected that no watch may see, such as a permission.
const UNWATCHED: Duration = Duration::from_secs(60);

/// Why a reconcile could not finish.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The status could not be written.
    #[error("cannot write the status")]
    Status(#[source] kube::Error),
    /// An object could not be written. The status reports it, too.
    #[error("{source}")]
    Apply {
        /// The object and the cause.
        source: ApplyError,
        /// Whether other objects were written. If so, the retry is not delayed further.
        progress: bool,
    },
}

/// Reports the result of a reconcile.
///
/// # Errors
/// If the status or an object could not be written.
pub async fn report(
    pipeline: &PingPipeline,
    status: PingPipelineStatus,
    applied: Applied,
    context: &Context,
) -> Result<(Outcome, Action), ReportError> {
    for change in &applied.changes {
        report_change(pipeline, change, context).await;
    }
    let before = pipeline.status.clone().unwrap_or_default();
    report_transition(pipeline, &before, &status, context).await;
    if own_part(&before) != own_part(&status) {
        write_status(pipeline, &status, context).await.map_err(ReportError::Status)?;
    }
    let is = |kind: ConditionType| find(&status, kind).is_some_and(|condition| condition.status == "True");
    let name = Names::of(pipeline).into();
    context.metrics.ready(&name, gauges::ready(&status));
    context.metrics.backed_up(&name, gauges::backed_up(&pipeline.spec, &status));
    if let Some((_, error)) = applied.failures.into_iter().next() {
        return Err(ReportError::Apply { source: error, progress: !applied.changes.is_empty() });
    }
    Ok(match (is(ConditionType::Ready), is(ConditionType::Stalled)) {
        (true, _) if is_unwatched(pipeline) => (Outcome::Settled, Action::requeue(UNWATCHED)),
        (true, _) => (Outcome::Settled, Action::requeue(SETTLED)),
        (false, true) if is_about_the_spec(&status) && !is_unwatched(pipeline) => {
            (Outcome::Refused, Action::requeue(SETTLED))
        }
        (false, true) => (Outcome::Refused, Action::requeue(UNWATCHED)),
        (false, false) => (Outcome::Waiting, Action::requeue(waiting(pipeline, &status))),
    })
}

/// True if only a change of the spec helps.
fn is_about_the_spec(status: &PingPipelineStatus) -> bool {
    let reasons = [Reason::Invalid, Reason::UnsafeForExact, Reason::Irreversible].map(Reason::as_str);
    find(status, ConditionType::Stalled).is_some_and(|stalled| reasons.contains(&&*stalled.reason))
}

/// Delay until the next reconcile of a pipeline that waits for other operators.
fn waiting(pipeline: &PingPipeline, status: &PingPipelineStatus) -> Duration {
    let since = find(status, ConditionType::Ready).map(|ready| ready.last_transition_time.0.as_second());
    let waited = Timestamp::now().as_second() - since.unwrap_or_default();
    if waited < FIRST_MINUTE || is_cross_namespace(pipeline) { WAITING } else { SETTLED }
}

/// True if Kafka is in another namespace.
fn is_cross_namespace(pipeline: &PingPipeline) -> bool {
    let kafka = pipeline.spec.kafka.cluster_ref.as_ref().and_then(|reference| reference.namespace.clone());
    kafka.is_some_and(|namespace| Some(namespace) != pipeline.namespace())
}

/// True if the pipeline depends on what no watch sees.
fn is_unwatched(pipeline: &PingPipeline) -> bool {
    is_cross_namespace(pipeline) || pipeline.spec.server.authentication.service_accounts.is_some()
}

/// Writes the part of the status that the reconcile owns.
///
/// # Errors
/// If the API server rejects the request or does not respond.
pub async fn write_status(
    pipeline: &PingPipeline,
    status: &PingPipelineStatus,
    context: &Context,
) -> Result<(), kube::Error> {
    patch_status(pipeline, json!(own_part(status)), &server_side(), context).await
}

/// Writes `status` with the field manager in `params`. The patch contains the UID, so it cannot change a new pipeline of the same
/// name.
pub(crate) async fn patch_status(
    pipeline: &PingPipeline,
    status: serde_json::Value,
    params: &PatchParams,
    context: &Context,
) -> Result<(), kube::Error> {
    let api = Api::<PingPipeline>::namespaced(context.client.clone(), &pipeline.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": PingPipeline::api_version(&()),
        "kind": PingPipeline::kind(&()),
        "metadata": { "name": pipeline.name_any(), "uid": pipeline.uid() },
        "status": status,
    });
    api.patch_status(&pipeline.name_any(), params, &Patch::Apply(&patch)).await.map(|_| ())
}

/// The status without the part that `stats` writes.
fn own_part(status: &PingPipelineStatus) -> PingPipelineStatus {
    let from_stats = |condition: &Condition| {
        ConditionType::ALL.iter().any(|(kind, _)| kind.is_from_stats() && condition.type_ == kind.to_string())
    };
    let mut own = status.clone();
    own.stats = None;
    own.conditions.retain(|condition| !from_stats(condition));
    own
}

async fn report_change(pipeline: &PingPipeline, change: &Change, context: &Context) {
    match change {
        Change::Created(key) => tracing::debug!(object = %key, "created"),
        Change::Updated(key) => tracing::info!(object = %key, "updated"),
        Change::Pruned(key) => {
            publish_event(
                pipeline,
                EventType::Normal,
                "Pruned",
                format!("Deleted {key}, which is no longer part of the pipeline"),
                context,
            )
            .await;
        }
        Change::Repaired(key, path) => {
            context.metrics.repaired();
            let note = format!("Restored {key}: another client changed {path}. Change the PingPipeline instead");
            publish_event(pipeline, EventType::Warning, "DriftRepaired", note, context).await;
        }
    }
}

/// Publishes an event when the status or reason of `Ready` changes.
async fn report_transition(
    pipeline: &PingPipeline,
    before: &PingPipelineStatus,
    after: &PingPipelineStatus,
    context: &Context,
) {
    let (Some(now), then) = (find(after, ConditionType::Ready), find(before, ConditionType::Ready)) else { return };
    if then.is_some_and(|then| then.status == now.status && then.reason == now.reason) {
        return;
    }
    let urgent = now.status != "True" && !matches!(now.reason.as_str(), "Provisioning" | "RollingOut");
    let kind = if urgent { EventType::Warning } else { EventType::Normal };
    publish_event(pipeline, kind, &now.reason, now.message.clone(), context).await;
}

/// Publishes an event on the pipeline and writes it to the log.
pub(crate) async fn publish_event(
    pipeline: &PingPipeline,
    kind: EventType,
    reason: &str,
    note: String,
    context: &Context,
) {
    match kind {
        EventType::Normal => tracing::info!(reason, "{note}"),
        EventType::Warning => tracing::warn!(reason, "{note}"),
    }
    let mut note = note;
    note.truncate(note.floor_char_boundary(1000));
    let event =
        Event { type_: kind, reason: reason.into(), note: Some(note), action: "Reconcile".into(), secondary: None };
    if let Err(error) = context.recorder.publish(&event, &pipeline.object_ref(&())).await {
        tracing::warn!(error = chain(&error), "cannot publish an event");
    }
}
