//! The condition `BackedUp`: whether the write-ahead log is archived, and base backups are made when they are due. Messages have times, not
//! ages, so that a status at rest does not change.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use ping_api::{crd::postgres::PostgresCluster, kinds::Kind, reason::Reason};

use super::component::StatusInput;
use crate::{
    condition::ConditionValue,
    external::{
        ExternalCondition, Ignored,
        barman::{ObjectStoreStatus, RecoveryWindow, ScheduledBackupStatus},
        cnpg::{ClusterStatus, ObservedCluster},
    },
    pipeline::Postgres,
};

/// How long a base backup may take until it is overdue.
const GRACE: SignedDuration = SignedDuration::from_hours(6);

/// What CloudNativePG reports about the backups of a cluster.
#[derive(Debug, Default)]
struct Backups {
    archiving: Option<ExternalCondition>,
    window: RecoveryWindow,
    schedule: ScheduledBackupStatus,
}

pub(super) fn backed_up(input: &StatusInput<'_>) -> ConditionValue {
    match &input.pipeline.postgres {
        Postgres::External(_) => ConditionValue::unknown(
            Reason::Unverified,
            "the operator cannot check the backups of the external Postgres; make sure that it has some",
        ),
        Postgres::Cluster(cluster) => managed(input, cluster),
    }
}

fn managed(input: &StatusInput<'_>, cluster: &PostgresCluster) -> ConditionValue {
    if cluster.backup.is_none() {
        let message = "spec.postgres.cluster.backup is not set, so nothing can be restored if all volumes are lost";
        return ConditionValue::not_met(Reason::NoBackup, message);
    }
    if input.pipeline.hibernate {
        return ConditionValue::unknown(Reason::Hibernating, "no backups are made while spec.hibernate is true");
    }
    condition(&observe(input), input.now)
}

fn observe(input: &StatusInput<'_>) -> Backups {
    let name = input.pipeline.names.postgres();
    let live = &input.applied.live;
    let key = |kind| input.pipeline.names.key(kind, &name);
    let cluster = live.observe::<ObservedCluster, ClusterStatus>(&key(Kind::Cluster));
    let conditions = cluster.and_then(|cluster| cluster.status).unwrap_or_default().conditions;
    let store = live.observe::<Ignored, ObjectStoreStatus>(&key(Kind::ObjectStore));
    let mut windows = store.and_then(|store| store.status).unwrap_or_default().server_recovery_window;
    let schedule = live.observe::<Ignored, ScheduledBackupStatus>(&key(Kind::ScheduledBackup));
    Backups {
        archiving: conditions.into_iter().find(|condition| condition.kind == "ContinuousArchiving"),
        window: windows.remove(&name).unwrap_or_default(),
        schedule: schedule.and_then(|schedule| schedule.status).unwrap_or_default(),
    }
}

fn condition(backups: &Backups, now: Timestamp) -> ConditionValue {
    let Backups { archiving, window, schedule } = backups;
    if let Some(failed) = archiving.as_ref().filter(|condition| condition.status == "False") {
        let cause = failed.message.as_deref().unwrap_or("no message");
        let message = format!("the write-ahead log is not archived, so later events cannot be restored: {cause}");
        return ConditionValue::not_met(Reason::ArchivingFailed, message);
    }
    let last = window.last_successful_backup_time;
    let restorable = || match (window.first_recoverability_point, last) {
        (Some(first), Some(last)) => {
            format!("every time since {first} can be restored; the last backup is from {last}")
        }
        _ => "nothing can be restored yet".into(),
    };
    if let Some(failed) = window.last_failed_backup_time.filter(|failed| last.is_none_or(|last| *failed > last)) {
        let message = format!("the backup of {failed} failed; {}", restorable());
        return ConditionValue::not_met(Reason::BackupFailed, message);
    }
    let missed = schedule
        .last_schedule_time
        .filter(|due| last.is_none_or(|last| last < *due))
        .or(schedule.next_schedule_time.filter(|due| *due < now));
    match (missed, last) {
        (Some(due), _) if due + GRACE < now => {
            let message = format!("the backup that was due at {due} has not ended; {}", restorable());
            ConditionValue::not_met(Reason::BackupOverdue, message)
        }
        (_, Some(_)) => ConditionValue::met(Reason::Restorable, restorable()),
        (_, None) => {
            let next = schedule.next_schedule_time.map(|next| format!("; the next one is due at {next}"));
            let message = format!("no backup has ended yet{}", next.unwrap_or_default());
            ConditionValue::not_met(Reason::BackupPending, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000 + hour)
    }

    fn backups(ended: Option<i64>, failed: Option<i64>, due: Option<i64>, next: i64) -> Backups {
        Backups {
            archiving: Some(ExternalCondition {
                kind: "ContinuousArchiving".into(),
                status: "True".into(),
                ..Default::default()
            }),
            window: RecoveryWindow {
                first_recoverability_point: ended.map(|_| at(-100)),
                last_successful_backup_time: ended.map(at),
                last_failed_backup_time: failed.map(at),
            },
            schedule: ScheduledBackupStatus { last_schedule_time: due.map(at), next_schedule_time: Some(at(next)) },
        }
    }

    #[test]
    fn a_backup_is_pending_made_overdue_or_failed() {
        for (backups, reason) in [
            (Backups::default(), Reason::BackupPending),
            (backups(None, None, None, 3), Reason::BackupPending),
            (backups(None, None, Some(-1), 23), Reason::BackupPending),
            (backups(None, None, Some(-7), 17), Reason::BackupOverdue),
            (backups(Some(-2), None, Some(-3), 21), Reason::Restorable),
            (backups(Some(-26), None, Some(-2), 22), Reason::Restorable),
            (backups(Some(-31), None, Some(-7), 17), Reason::BackupOverdue),
            // The schedule is not run.
            (backups(Some(-31), None, Some(-32), -8), Reason::BackupOverdue),
            (backups(Some(-26), Some(-2), Some(-2), 22), Reason::BackupFailed),
            (backups(Some(-2), Some(-26), Some(-3), 21), Reason::Restorable),
        ] {
            let value = condition(&backups, at(0));
            assert_eq!(value.reason, reason, "{backups:?}: {}", value.message);
            assert_eq!(value.is_met(), reason == Reason::Restorable);
            assert_eq!(condition(&backups, at(0) + SignedDuration::from_secs(1)), value, "at rest, nothing changes");
        }
    }

    #[test]
    fn an_archive_that_fails_comes_first() {
        let mut backups = backups(Some(-2), None, Some(-3), 21);
        let archiving = backups.archiving.as_mut().unwrap();
        (archiving.status, archiving.message) = ("False".into(), Some("no such bucket".into()));
        let value = condition(&backups, at(0));
        assert_eq!(value.reason, Reason::ArchivingFailed);
        assert!(value.message.contains("no such bucket"));
    }
}
