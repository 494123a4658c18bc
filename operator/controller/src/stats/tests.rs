use ping_api::crd::{PingPipelineSpec, status::PostgresVolume};

use super::*;
use crate::{
    incarnation::{Incarnation, IncarnationChange},
    storage::Usage,
};

/// Of generation 1, without settings.
fn pipeline() -> PingPipeline {
    let mut pipeline = PingPipeline::new("demo", PingPipelineSpec::default());
    pipeline.metadata.generation = Some(1);
    pipeline
}

fn count(total: i64, lag_ms: i64) -> Option<Result<Count, StatsError>> {
    Some(Ok(Count {
        total,
        lag_ms,
        exact: true,
        store: "cache".into(),
        last_audit_ms: Some(995_000),
        views_differ: false,
        views_last_audit_ms: Some(994_000),
        storage: None,
        incarnation_change: None,
    }))
}

#[test]
fn the_same_answer_changes_nothing() {
    let now = Timestamp::from_second(1_000).unwrap();
    let (stats, conditions) = evaluate(&PingPipelineStatus::default(), count(5, 10), &pipeline(), now);
    let before = PingPipelineStatus { stats, conditions, ..PingPipelineStatus::default() };
    let later = Timestamp::from_second(1_050).unwrap();
    let again = evaluate(&before, count(5, 700), &pipeline(), later);
    assert_eq!(again, (before.stats.clone(), before.conditions.clone()));
}

#[test]
fn conditions_are_written_at_once_and_totals_at_most_once_per_interval() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let due = |before: &PingPipelineStatus, count, second| {
        let (stats, conditions) = evaluate(before, count, &pipeline(), at(second));
        is_due(before, stats.as_ref(), &conditions, Duration::from_secs(10), at(second))
    };
    let nothing = PingPipelineStatus::default();
    assert!(due(&nothing, count(5, 10), 1_000));
    let (stats, conditions) = evaluate(&nothing, count(5, 10), &pipeline(), at(1_000));
    let before = PingPipelineStatus { stats, conditions, ..nothing };
    assert!(!due(&before, count(6, 10), 1_009), "another total, within the interval");
    assert!(due(&before, count(6, 10), 1_010));
    assert!(!due(&before, count(5, 10), 1_040), "the same");
    assert!(due(&before, count(6, 5_001), 1_001), "not fresh");
    assert!(due(&before, Some(Err(StatsError::Unconnected)), 1_001));
}

#[test]
fn missing_audits_show_in_the_age_of_the_last_one() {
    let last_audit = |second| {
        let now = Timestamp::from_second(second).unwrap();
        evaluate(&PingPipelineStatus::default(), count(5, 10), &pipeline(), now).0.unwrap().last_audit.unwrap()
    };
    assert_eq!([990, 1_054, 1_055, 8_194, 8_195].map(last_audit), ["<1m", "<1m", "1m", "119m", "2h"]);
}

#[test]
fn without_an_answer_the_last_stats_are_kept_and_the_conditions_are_unknown() {
    let now = Timestamp::from_second(1_000).unwrap();
    let (stats, conditions) = evaluate(&PingPipelineStatus::default(), count(5, 10), &pipeline(), now);
    let before = PingPipelineStatus { stats, conditions, ..PingPipelineStatus::default() };
    let (stats, conditions) = evaluate(&before, None, &pipeline(), now);
    assert_eq!(stats, before.stats);
    assert!(conditions.iter().all(|condition| condition.status == "Unknown" && condition.reason == "NotServing"));
}

#[test]
fn a_count_older_than_configured_is_not_fresh() {
    let now = Timestamp::from_second(1_000).unwrap();
    let (_, conditions) = evaluate(&PingPipelineStatus::default(), count(5, 5001), &pipeline(), now);
    assert_eq!(conditions[1].reason, "Lagging");
}

#[test]
fn views_that_differ_are_not_exact_and_say_so() {
    let now = Timestamp::from_second(1_000).unwrap();
    let answer = |views_differ| count(5, 10).map(|count| count.map(|count| Count { views_differ, ..count }));
    let (stats, conditions) = evaluate(&PingPipelineStatus::default(), answer(true), &pipeline(), now);
    assert_eq!((conditions[0].status.as_str(), conditions[0].reason.as_str()), ("False", "ViewsDiffer"));
    assert_eq!(stats.unwrap().views_audit.as_deref(), Some("differ"));
    let (stats, conditions) = evaluate(&PingPipelineStatus::default(), answer(false), &pipeline(), now);
    assert_eq!((conditions[0].status.as_str(), stats.unwrap().views_audit.as_deref()), ("True", Some("<1m")));
}

#[test]
fn exact_says_for_a_week_that_the_store_went_back_also_if_another_server_does_not_know_it() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let change = IncarnationChange { of: Incarnation::Store, noticed_ms: 1_000_000, phantom_events: 7 };
    let answer = |exact, change| {
        count(5, 10).map(|count| count.map(|count| Count { exact, incarnation_change: change, ..count }))
    };
    let mut status = PingPipelineStatus::default();
    let mut exact = |answer, second| {
        let (stats, conditions) = evaluate(&status, answer, &pipeline(), at(second));
        status = PingPipelineStatus { stats, conditions, ..PingPipelineStatus::default() };
        (status.conditions[0].status.clone(), status.conditions[0].reason.clone())
    };
    let met = |reason: &str| ("True".to_owned(), reason.to_owned());
    assert_eq!(exact(answer(true, None), 999), met("CountedOnce"));
    assert_eq!(exact(answer(false, Some(change)), 1_001).1, "Recounting");
    assert_eq!(exact(answer(true, Some(change)), 1_002), met("StoreWentBack"));
    assert_eq!(exact(answer(true, None), 1_003), met("StoreWentBack"), "of a server that has just started");
    assert_eq!(exact(None, 1_004).0, "Unknown");
    assert_eq!(exact(answer(true, Some(change)), 1_005), met("StoreWentBack"));
    assert_eq!(exact(answer(true, Some(change)), 1_000 + 7 * 86_400), met("CountedOnce"));
}

#[test]
fn a_restore_is_told_from_a_topic_that_was_created_again_later() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut pipeline = pipeline();
    let cluster = serde_json::from_value(json!({ "recovery": { "pipeline": "old" } })).unwrap();
    pipeline.spec.postgres.cluster = Some(cluster);
    let mut status = PingPipelineStatus { restored_at: Some(Time(at(1_000))), ..PingPipelineStatus::default() };
    let mut exact = |change, second| {
        let answer = count(5, 10).map(|count| count.map(|count| Count { incarnation_change: change, ..count }));
        let (stats, conditions) = evaluate(&status, answer, &pipeline, at(second));
        let announced = is_new(status.stats.as_ref(), stats.as_ref());
        status = PingPipelineStatus { stats, conditions, ..status.clone() };
        (status.conditions[0].reason.clone(), announced)
    };
    let noticed = |noticed_ms| Some(IncarnationChange { of: Incarnation::Log, noticed_ms, phantom_events: 0 });
    assert_eq!(exact(None, 1_100), ("Restored".into(), false));
    assert_eq!(exact(noticed(999_000), 1_101), ("Restored".into(), false), "of the pipeline that was backed up");
    assert_eq!(exact(noticed(1_102_000), 1_102), ("LogRecreated".into(), true));
    assert_eq!(exact(None, 1_103), ("LogRecreated".into(), false), "of a server that has just started");
    assert_eq!(exact(noticed(1_102_000), 1_102 + 7 * 86_400), ("CountedOnce".into(), false));
}

const GIB: i64 = 1 << 30;

/// A status with a volume of 10 GiB, and an answer that `used` GiB of it are in use.
fn stored(used: i64) -> (PingPipelineStatus, Option<Result<Count, StatsError>>) {
    let volume = PostgresVolume { bytes: 10 * GIB, holds_wal: true };
    let storage = Some(Usage { used: used * GIB, wal: GIB, growth_per_day: None });
    let answer = count(5, 10).map(|count| count.map(|count| Count { storage, ..count }));
    (PingPipelineStatus { postgres_volume: Some(volume), ..PingPipelineStatus::default() }, answer)
}

#[test]
fn a_volume_that_was_low_stays_so_while_no_server_answers() {
    let now = Timestamp::from_second(1_000).unwrap();
    let (nothing, answer) = stored(8);
    let (stats, conditions) = evaluate(&nothing, answer, &pipeline(), now);
    assert_eq!((conditions[2].status.as_str(), conditions[2].reason.as_str()), ("True", "AlmostFull"));
    assert_eq!(stats.as_ref().unwrap().storage.as_deref(), Some("90%"));
    let before = PingPipelineStatus { stats, conditions, ..nothing };
    for silent in [None, Some(Err(StatsError::Unconnected)), count(5, 10)] {
        let (_, conditions) = evaluate(&before, silent, &pipeline(), now);
        assert_eq!(conditions[2], before.conditions[2]);
    }
    let (_, conditions) = evaluate(&before, stored(3).1, &pipeline(), now);
    assert_eq!((conditions[2].status.as_str(), conditions[2].reason.as_str()), ("False", "Sufficient"));
}

#[test]
fn without_a_measurement_or_a_volume_it_is_unknown_whether_storage_is_low() {
    let now = Timestamp::from_second(1_000).unwrap();
    let reason = |answer| evaluate(&PingPipelineStatus::default(), answer, &pipeline(), now).1[2].reason.clone();
    assert_eq!(reason(count(5, 10)), "NotMeasured");
    assert_eq!(reason(stored(8).1), "VolumeUnknown");
}

#[test]
fn figures_of_the_storage_are_written_at_most_once_per_interval() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let (nothing, answer) = stored(3);
    let (stats, conditions) = evaluate(&nothing, answer, &pipeline(), at(1_000));
    let before = PingPipelineStatus { stats, conditions, ..nothing };
    let due = |used, second| {
        let (stats, conditions) = evaluate(&before, stored(used).1, &pipeline(), at(second));
        is_due(&before, stats.as_ref(), &conditions, Duration::from_secs(10), at(second))
    };
    assert!(!due(3, 1_040) && !due(4, 1_009) && due(4, 1_010));
    assert!(due(8, 1_001), "it is low");

    // The summary is the same, and the message has another growth.
    let answer = || stored(3).1.map(|count| count.map(|count| Count { storage: not_growing(count.storage), ..count }));
    let evaluated = |before: &PingPipelineStatus, second| {
        let (stats, conditions) = evaluate(before, answer(), &pipeline(), at(second));
        let due = is_due(before, stats.as_ref(), &conditions, Duration::from_secs(10), at(second));
        (due, PingPipelineStatus { stats, conditions, ..before.clone() })
    };
    assert!(!evaluated(&before, 1_009).0);
    let (due, after) = evaluated(&before, 1_010);
    assert!(due && after.conditions[2].message.ends_with("it does not grow"));
    assert!(!evaluated(&after, 1_030).0, "it is written");
}

fn not_growing(usage: Option<Usage>) -> Option<Usage> {
    usage.map(|usage| Usage { growth_per_day: Some(0), ..usage })
}

#[test]
fn lags_are_coarse() {
    let texts = [-5, 999, 1_000, 119_000, 180_000, 7_200_000].map(lag);
    assert_eq!(texts, ["<1s", "<1s", "1s", "119s", "3m", "2h"]);
}

#[test]
fn servers_are_asked_while_the_spec_is_refused_and_not_before_they_are_ready() {
    let status = |server: Option<&ConditionValue>| {
        let now = Timestamp::UNIX_EPOCH;
        let conditions = server.map(|value| condition(None, ConditionType::ServerReady, value, 1, now));
        PingPipelineStatus { conditions: conditions.into_iter().collect(), ..PingPipelineStatus::default() }
    };
    assert!(may_serve(&status(Some(&ConditionValue::met(Reason::Ready, "")))));
    assert!(may_serve(&status(Some(&ConditionValue::unknown(Reason::Refused, "")))));
    assert!(!may_serve(&status(Some(&ConditionValue::not_met(Reason::Provisioning, "")))));
    assert!(!may_serve(&status(None)));
}
