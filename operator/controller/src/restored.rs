//! Pipelines whose Postgres was started from a backup: what `Exact` says about them. Pure.

use k8s_openapi::jiff::Timestamp;
use ping_api::{
    crd::{backup::Recovery, status::PingPipelineStatus},
    reason::Reason,
};

use crate::{
    condition::ConditionValue,
    incarnation::{IncarnationChange, SHOWN_FOR_MS},
};

/// The value of `Exact`, while counts are exact, in the first week after a restore. `recovery` says what was restored.
pub(crate) fn exact(
    recovery: Option<&Recovery>,
    status: &PingPipelineStatus,
    now: Timestamp,
) -> Option<ConditionValue> {
    let (recovery, restored_ms) = (recovery?, restored_ms(status)?);
    (now.as_millisecond().saturating_sub(restored_ms) < SHOWN_FOR_MS).then(|| {
        let has_log = recovery.object_store.is_some() || recovery.pipeline.is_some();
        let state = match &recovery.target_time {
            Some(time) => format!("its state of {time}"),
            None if has_log => "the latest state that was archived".into(),
            None => "the state in its volume snapshots".into(),
        };
        let message = format!(
            "every acknowledged event is counted exactly once. Postgres was started from a backup, with {state}; counting continues from the \
             restored events. No event has become a dead letter because of it"
        );
        ConditionValue::met(Reason::Restored, message)
    })
}

/// Whether `change` came with the backup: it was noticed before the restore, so by the pipeline that was backed up.
pub(crate) fn came_with_backup(change: &IncarnationChange, status: &PingPipelineStatus) -> bool {
    restored_ms(status).is_some_and(|restored_ms| change.noticed_ms < restored_ms)
}

fn restored_ms(status: &PingPipelineStatus) -> Option<i64> {
    Some(status.restored_at.as_ref()?.0.as_millisecond())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::incarnation::Incarnation;

    const RESTORED_MS: i64 = 1_764_324_000_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(RESTORED_MS + ms).unwrap()
    }

    fn restored() -> PingPipelineStatus {
        PingPipelineStatus { restored_at: Some(Time(at(0))), ..PingPipelineStatus::default() }
    }

    #[test]
    fn exact_says_for_a_week_which_state_was_restored() {
        let recovery = |value: Value| -> Recovery { serde_json::from_value(value).unwrap() };
        let archived = recovery(json!({ "pipeline": "pings" }));
        let message = |recovery: &Recovery| {
            let value = exact(Some(recovery), &restored(), at(SHOWN_FOR_MS - 1)).unwrap();
            assert!(value.is_met() && value.reason == Reason::Restored);
            value.message
        };
        let to_a_time = recovery(json!({ "pipeline": "pings", "targetTime": "2026-11-28T09:30:00Z" }));
        assert!(message(&to_a_time).contains("its state of 2026-11-28T09:30:00Z; counting continues"));
        assert!(message(&archived).contains("the latest state that was archived"));
        assert!(message(&recovery(json!({ "volumeSnapshots": { "storage": "a" } }))).contains("its volume snapshots"));
        assert_eq!(exact(Some(&archived), &restored(), at(SHOWN_FOR_MS)), None);
        assert_eq!(exact(Some(&archived), &PingPipelineStatus::default(), at(0)), None);
        assert_eq!(exact(None, &restored(), at(0)), None);
    }

    #[test]
    fn only_changes_before_the_restore_came_with_the_backup() {
        let noticed = |ms| IncarnationChange { of: Incarnation::Log, noticed_ms: RESTORED_MS + ms, phantom_events: 0 };
        assert!(came_with_backup(&noticed(-1), &restored()));
        assert!(!came_with_backup(&noticed(0), &restored()), "in doubt, it is reported");
        assert!(!came_with_backup(&noticed(-1), &PingPipelineStatus::default()));
    }
}
