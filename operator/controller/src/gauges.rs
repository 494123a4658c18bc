//! What the operator's metrics say about a pipeline, from which alerts follow. A pipeline that does on purpose what an alert would report has
//! none. Pure.

use ping_api::{
    condition::ConditionType,
    crd::{PingPipelineSpec, status::PingPipelineStatus},
    reason::Reason,
};

use crate::condition::find;

/// Whether the pipeline is ready; `None` while it hibernates. A suspended one is as ready as its components: they keep running.
#[must_use]
pub fn ready(status: &PingPipelineStatus) -> Option<bool> {
    let is_met = |kind| find(status, kind).is_some_and(|condition| condition.status == "True");
    let has_reason = |kind, reason: Reason| find(status, kind).is_some_and(|found| found.reason == reason.as_str());
    if has_reason(ConditionType::Ready, Reason::Hibernating) {
        return None;
    }
    if !has_reason(ConditionType::Ready, Reason::Suspended) {
        return Some(is_met(ConditionType::Ready));
    }
    let hibernates = ConditionType::COMPONENTS.into_iter().any(|kind| has_reason(kind, Reason::Hibernating));
    (!hibernates).then(|| ConditionType::COMPONENTS.into_iter().all(is_met))
}

/// Whether backups are made when they are due; `None` without backups, and while the pipeline hibernates.
#[must_use]
pub fn backed_up(spec: &PingPipelineSpec, status: &PingPipelineStatus) -> Option<bool> {
    spec.postgres.cluster.as_ref()?.backup.as_ref()?;
    let condition = find(status, ConditionType::BackedUp)?;
    (condition.reason != Reason::Hibernating.as_str()).then_some(condition.status == "True")
}
