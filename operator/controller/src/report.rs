//! After the five steps: writes the status if it changed, tells people by events, and says when to look again.

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
};
use serde_json::json;

use crate::{
    apply::{Applied, ApplyError, Change, server_side},
    context::Context,
    error::chain,
    metrics::Outcome,
};

/// Others may be slow to say something, or say nothing: look again after this long, in the first minute.
const WAITING: Duration = Duration::from_secs(15);
/// Later, the watches have to do.
const WAITING_LONG: Duration = Duration::from_secs(120);
/// This long, in seconds, waiting is short.
const FIRST_MINUTE: i64 = 60;
/// Watches bring us back; this is for what no watch sees.
const SETTLED: Duration = Duration::from_secs(600);
/// An operator of one namespace does not watch the one that Kafka is in.
const SETTLED_ABROAD: Duration = Duration::from_secs(60);

/// What stands in the way of a finished pass.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The status could not be written.
    #[error("cannot write the status")]
    Status(#[source] kube::Error),
    /// Some object could not be written; the status says so too.
    #[error("{source}")]
    Apply {
        /// Which, and why.
        source: ApplyError,
        /// Whether others were written: then it is worth trying again soon.
        progress: bool,
    },
}

/// Ends a pass.
///
/// # Errors
/// When the status or an object could not be written.
pub async fn report(
    pipeline: &PingPipeline,
    status: PingPipelineStatus,
    applied: Applied,
    context: &Context,
) -> Result<(Outcome, Action), ReportError> {
    for change in &applied.changes {
        tell_change(pipeline, change, context).await;
    }
    let before = pipeline.status.clone().unwrap_or_default();
    tell_transition(pipeline, &before, &status, context).await;
    if own_part(&before) != own_part(&status) {
        write_status(pipeline, &status, context).await.map_err(ReportError::Status)?;
    }
    let is = |kind: ConditionType| find(&status, kind).is_some_and(|condition| condition.status == "True");
    context.metrics.pipeline(&Names::of(pipeline), is(ConditionType::Ready));
    if let Some((_, error)) = applied.failures.into_iter().next() {
        return Err(ReportError::Apply { source: error, progress: !applied.changes.is_empty() });
    }
    Ok(match (is(ConditionType::Ready), is(ConditionType::Stalled)) {
        (true, _) if is_abroad(pipeline) => (Outcome::Settled, Action::requeue(SETTLED_ABROAD)),
        (true, _) => (Outcome::Settled, Action::requeue(SETTLED)),
        (false, true) => (Outcome::Refused, Action::requeue(SETTLED)),
        (false, false) => (Outcome::Waiting, Action::requeue(waiting(pipeline, &status))),
    })
}

/// How soon to look again at a pipeline that waits for others.
fn waiting(pipeline: &PingPipeline, status: &PingPipelineStatus) -> Duration {
    let since = find(status, ConditionType::Ready).map(|ready| ready.last_transition_time.0.as_second());
    let waited = Timestamp::now().as_second() - since.unwrap_or_default();
    if waited < FIRST_MINUTE || is_abroad(pipeline) { WAITING } else { WAITING_LONG }
}

/// True when Kafka is in another namespace.
fn is_abroad(pipeline: &PingPipeline) -> bool {
    let kafka = pipeline.spec.kafka.cluster_ref.as_ref().and_then(|reference| reference.namespace.clone());
    kafka.is_some_and(|namespace| Some(namespace) != pipeline.namespace())
}

/// Writes the part of the status that a pass owns.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn write_status(
    pipeline: &PingPipeline,
    status: &PingPipelineStatus,
    context: &Context,
) -> Result<(), kube::Error> {
    patch_status(pipeline, json!(own_part(status)), &server_side(), context).await
}

/// Writes `status` as the field manager of `params`; the identity of the pipeline is checked.
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

/// The status without what `figures` writes.
fn own_part(status: &PingPipelineStatus) -> PingPipelineStatus {
    let figure = |condition: &Condition| {
        ConditionType::ALL.iter().any(|(kind, _)| kind.is_figure() && condition.type_ == kind.to_string())
    };
    let mut own = status.clone();
    own.figures = None;
    own.conditions.retain(|condition| !figure(condition));
    own
}

fn find(status: &PingPipelineStatus, kind: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind.to_string())
}

async fn tell_change(pipeline: &PingPipeline, change: &Change, context: &Context) {
    match change {
        Change::Created(key) => tracing::debug!(object = %key, "created"),
        Change::Updated(key) => tracing::info!(object = %key, "updated"),
        Change::Pruned(key) => {
            tell(pipeline, EventType::Normal, "Pruned", format!("{key} is no longer wanted"), context).await;
        }
        Change::Repaired(key, path) => {
            context.metrics.repaired();
            let note =
                format!("{key} was changed by somebody else at {path}; put back. Change the PingPipeline instead");
            tell(pipeline, EventType::Warning, "DriftRepaired", note, context).await;
        }
    }
}

/// People hear about Ready only when it changes.
async fn tell_transition(
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
    tell(pipeline, kind, &now.reason, now.message.clone(), context).await;
}

/// An event on the pipeline, and the same as a log line.
pub(crate) async fn tell(pipeline: &PingPipeline, kind: EventType, reason: &str, note: String, context: &Context) {
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
