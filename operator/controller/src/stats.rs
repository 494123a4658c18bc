//! Live stats: requests the count and its freshness from a server of each pipeline, and maintains `status.stats` and the
//! conditions `Exact`, `Fresh` and `StorageLow`. Uses its own field manager, so that reconciles and stats do not overwrite each other.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{api::PatchParams, runtime::reflector::Store};
use ping_api::{
    condition::ConditionType,
    crd::{
        PingPipeline,
        status::{PingPipelineStatus, Stats, VIEWS_DIFFER},
    },
    names::Names,
    reason::Reason,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    condition::{ConditionValue, condition, whole_second},
    context::Context,
    error::chain,
    report::patch_status,
    server_connection::{Count, StatsError},
    storage::Estimate,
};

/// Field manager of the stats.
const MANAGER: &str = "ping-operator-stats";
/// Pause between two requests to the same pipeline. With the timeout of a request, which can delay the next round, a condition that is no
/// longer true is reported within three seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of concurrent requests. More pipelines that do not answer at the same time would delay the others.
const CONCURRENCY: usize = 128;

/// Requests the stats of all pipelines in `store` until `shutdown`. Conditions are written when they change, totals at most every
/// `interval`.
pub async fn run(context: Arc<Context>, store: Store<PingPipeline>, interval: Duration, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(POLL_INTERVAL.min(interval));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        futures::stream::iter(store.state())
            .for_each_concurrent(CONCURRENCY, async |pipeline| refresh(&pipeline, interval, &context).await)
            .await;
    }
}

/// Requests the stats of one pipeline, and writes what is due.
async fn refresh(pipeline: &PingPipeline, interval: Duration, context: &Context) {
    let Some(status) = pipeline.status.as_ref().filter(|_| pipeline.metadata.deletion_timestamp.is_none()) else {
        return;
    };
    let names = Names::of(pipeline);
    let serving = status
        .conditions
        .iter()
        .any(|condition| condition.type_ == ConditionType::ServerReady.to_string() && condition.status == "True");
    let pipeline_name = names.clone().into();
    let count = match serving {
        true => match context.connections.get(&pipeline_name) {
            Some(connection) => Some(connection.count().await),
            // No spec has been accepted since this operator started.
            None if context.index.contains(&pipeline_name) => Some(Err(StatsError::Unconnected)),
            // The first reconcile is not over. What the last operator wrote remains true until then.
            None => return,
        },
        false => None,
    };
    let estimate = count.as_ref().and_then(|count| estimate(count.as_ref().ok()?, status));
    let fresh_within_ms = pipeline.spec.monitoring.fresh_within_ms;
    let generation = pipeline.metadata.generation.unwrap_or_default();
    let now = Timestamp::now();
    let (stats, conditions) = evaluate(status, count, fresh_within_ms, generation, now);
    if let Some(stats) = &stats {
        context.metrics.total(&pipeline_name, stats.total);
    }
    context.metrics.storage(&pipeline_name, estimate.as_ref());
    if !is_due(status, stats.as_ref(), &conditions, interval, now) {
        return;
    }
    let part = json!(PingPipelineStatus { stats, conditions, ..PingPipelineStatus::default() });
    let manager = PatchParams::apply(MANAGER).force();
    if let Err(error) = patch_status(pipeline, part, &manager, context).await {
        tracing::warn!(namespace = names.namespace, name = names.pipeline, error = chain(&error), "cannot write stats");
    }
}

/// Whether to write `stats` and `conditions`: at once if a condition changed, and otherwise if the stats did and are as old as `interval`.
/// A busy pipeline has other stats after every request. The message of `StorageLow` has figures, like the stats.
fn is_due(
    before: &PingPipelineStatus,
    stats: Option<&Stats>,
    conditions: &[Condition],
    interval: Duration,
    now: Timestamp,
) -> bool {
    let is_known = |condition: &Condition| {
        let mut known = before.conditions.iter();
        match condition.type_ == ConditionType::StorageLow.to_string() {
            true => known.any(|known| Condition { message: condition.message.clone(), ..known.clone() } == *condition),
            false => known.any(|known| known == condition),
        }
    };
    if !conditions.iter().all(is_known) {
        return true;
    }
    let written_at = before.stats.as_ref().and_then(|before| before.changed_at.as_ref());
    let is_old = written_at.is_none_or(|written_at| now.duration_since(written_at.0).unsigned_abs() >= interval);
    before.stats.as_ref() != stats && is_old
}

/// The stats and conditions that follow from `count`; `None` means that no server is ready. Pure.
#[must_use]
pub fn evaluate(
    before: &PingPipelineStatus,
    count: Option<Result<Count, StatsError>>,
    fresh_within_ms: i64,
    generation: i64,
    now: Timestamp,
) -> (Option<Stats>, Vec<Condition>) {
    let is_answered = matches!(count, Some(Ok(_)));
    let (mut stats, exact, fresh, storage) = match count {
        None => {
            let value = ConditionValue::unknown(Reason::NotServing, "no server is ready; see ServerReady");
            (before.stats.clone(), value.clone(), value.clone(), value)
        }
        Some(Err(error)) => {
            let value = ConditionValue::unknown(Reason::NoAnswer, chain(&error));
            (before.stats.clone(), value.clone(), value.clone(), value)
        }
        Some(Ok(count)) => {
            let stats = stats(before, &count, now);
            (Some(stats), exactness(&count), freshness(&count, fresh_within_ms), storage_low(&count, before))
        }
    };
    let values = [(ConditionType::Exact, exact), (ConditionType::Fresh, fresh), (ConditionType::StorageLow, storage)];
    let conditions = values.map(|(kind, value)| {
        let previous = before.conditions.iter().find(|condition| condition.type_ == kind.to_string());
        match previous.filter(|previous| kind == ConditionType::StorageLow && stays_low(previous, &value)) {
            Some(previous) => previous.clone(),
            None => condition(previous, kind, &value, generation, now),
        }
    });
    // So that other figures in the message of `StorageLow` are written, at most once per interval.
    if let Some(stats) = stats.as_mut().filter(|_| is_answered && !before.conditions.contains(&conditions[2])) {
        stats.changed_at = Some(Time(whole_second(now)));
    }
    (stats, conditions.into())
}

/// A volume that was low does not become unknown: a full one is why servers do not answer.
fn stays_low(previous: &Condition, value: &ConditionValue) -> bool {
    previous.status == "True" && [Reason::NotServing, Reason::NoAnswer, Reason::NotMeasured].contains(&value.reason)
}

fn estimate(count: &Count, status: &PingPipelineStatus) -> Option<Estimate> {
    Estimate::new(count.storage?, status.postgres_volume?)
}

fn storage_low(count: &Count, status: &PingPipelineStatus) -> ConditionValue {
    let unknown = ConditionValue::unknown;
    match (estimate(count, status), count.storage) {
        (Some(estimate), _) => estimate.condition(),
        (None, Some(_)) => unknown(
            Reason::VolumeUnknown,
            "the operator does not know how large the volume of the external Postgres is; watch it there",
        ),
        (None, None) => unknown(Reason::NotMeasured, "no server has measured yet how much Postgres stores"),
    }
}

fn exactness(count: &Count) -> ConditionValue {
    match (count.exact, count.views_differ) {
        (true, false) => ConditionValue::met(Reason::CountedOnce, "every acknowledged event is counted exactly once"),
        (true, true) => ConditionValue::not_met(
            Reason::ViewsDiffer,
            "the counts per source differ from the stored events and are being rebuilt from them; the total is exact",
        ),
        (false, _) => ConditionValue::not_met(
            Reason::Recounting,
            "the cache is being rebuilt or checked; the count will be exact when this is done",
        ),
    }
}

fn freshness(count: &Count, fresh_within_ms: i64) -> ConditionValue {
    match count.lag_ms <= fresh_within_ms {
        true => ConditionValue::met(Reason::WithinBound, format!("the count is at most {fresh_within_ms} ms old")),
        false => ConditionValue::not_met(
            Reason::Lagging,
            format!(
                "the count is more than {fresh_within_ms} ms old; the processors may not keep up, or the cache may be full. See \
                 ProcessorReady and KafkaReady"
            ),
        ),
    }
}

fn stats(status: &PingPipelineStatus, count: &Count, now: Timestamp) -> Stats {
    let before = status.stats.as_ref();
    let since = |at| age(now.as_millisecond().saturating_sub(at));
    let mut stats = Stats {
        total: count.total,
        lag: lag(count.lag_ms),
        store: count.store.clone(),
        last_audit: count.last_audit_ms.map(since),
        views_audit: if count.views_differ { Some(VIEWS_DIFFER.into()) } else { count.views_last_audit_ms.map(since) },
        storage: estimate(count, status).map(|estimate| estimate.summary()),
        changed_at: before.and_then(|before| before.changed_at.clone()),
    };
    if before != Some(&stats) {
        stats.changed_at = Some(Time(whole_second(now)));
    }
    stats
}

/// A lag in seconds, minutes or hours. It is coarse so that it rarely changes.
fn lag(milliseconds: i64) -> String {
    match milliseconds / 1000 {
        i64::MIN..=0 => "<1s".into(),
        seconds @ 1..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

/// The age of an audit in minutes or hours. Audits happen every few seconds, so minutes are precise enough.
fn age(milliseconds: i64) -> String {
    match milliseconds / 60_000 {
        i64::MIN..=0 => "<1m".into(),
        minutes @ 1..=119 => format!("{minutes}m"),
        minutes => format!("{}h", minutes / 60),
    }
}

#[cfg(test)]
mod tests {
    use ping_api::crd::status::PostgresVolume;

    use super::*;
    use crate::storage::Usage;

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
        }))
    }

    #[test]
    fn the_same_answer_changes_nothing() {
        let now = Timestamp::from_second(1_000).unwrap();
        let (stats, conditions) = evaluate(&PingPipelineStatus::default(), count(5, 10), 5000, 1, now);
        let before = PingPipelineStatus { stats, conditions, ..PingPipelineStatus::default() };
        let later = Timestamp::from_second(1_050).unwrap();
        let again = evaluate(&before, count(5, 700), 5000, 1, later);
        assert_eq!(again, (before.stats.clone(), before.conditions.clone()));
    }

    #[test]
    fn conditions_are_written_at_once_and_totals_at_most_once_per_interval() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let due = |before: &PingPipelineStatus, count, second| {
            let (stats, conditions) = evaluate(before, count, 5000, 1, at(second));
            is_due(before, stats.as_ref(), &conditions, Duration::from_secs(10), at(second))
        };
        let nothing = PingPipelineStatus::default();
        assert!(due(&nothing, count(5, 10), 1_000));
        let (stats, conditions) = evaluate(&nothing, count(5, 10), 5000, 1, at(1_000));
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
            evaluate(&PingPipelineStatus::default(), count(5, 10), 5000, 1, now).0.unwrap().last_audit.unwrap()
        };
        assert_eq!([990, 1_054, 1_055, 8_194, 8_195].map(last_audit), ["<1m", "<1m", "1m", "119m", "2h"]);
    }

    #[test]
    fn without_an_answer_the_last_stats_are_kept_and_the_conditions_are_unknown() {
        let now = Timestamp::from_second(1_000).unwrap();
        let (stats, conditions) = evaluate(&PingPipelineStatus::default(), count(5, 10), 5000, 1, now);
        let before = PingPipelineStatus { stats, conditions, ..PingPipelineStatus::default() };
        let (stats, conditions) = evaluate(&before, None, 5000, 1, now);
        assert_eq!(stats, before.stats);
        assert!(conditions.iter().all(|condition| condition.status == "Unknown" && condition.reason == "NotServing"));
    }

    #[test]
    fn a_count_older_than_configured_is_not_fresh() {
        let now = Timestamp::from_second(1_000).unwrap();
        let (_, conditions) = evaluate(&PingPipelineStatus::default(), count(5, 5001), 5000, 1, now);
        assert_eq!(conditions[1].reason, "Lagging");
    }

    #[test]
    fn views_that_differ_are_not_exact_and_say_so() {
        let now = Timestamp::from_second(1_000).unwrap();
        let answer = |views_differ| count(5, 10).map(|count| count.map(|count| Count { views_differ, ..count }));
        let (stats, conditions) = evaluate(&PingPipelineStatus::default(), answer(true), 5000, 1, now);
        assert_eq!((conditions[0].status.as_str(), conditions[0].reason.as_str()), ("False", "ViewsDiffer"));
        assert_eq!(stats.unwrap().views_audit.as_deref(), Some("differ"));
        let (stats, conditions) = evaluate(&PingPipelineStatus::default(), answer(false), 5000, 1, now);
        assert_eq!((conditions[0].status.as_str(), stats.unwrap().views_audit.as_deref()), ("True", Some("<1m")));
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
        let (stats, conditions) = evaluate(&nothing, answer, 5000, 1, now);
        assert_eq!((conditions[2].status.as_str(), conditions[2].reason.as_str()), ("True", "AlmostFull"));
        assert_eq!(stats.as_ref().unwrap().storage.as_deref(), Some("90%"));
        let before = PingPipelineStatus { stats, conditions, ..nothing };
        for silent in [None, Some(Err(StatsError::Unconnected)), count(5, 10)] {
            let (_, conditions) = evaluate(&before, silent, 5000, 1, now);
            assert_eq!(conditions[2], before.conditions[2]);
        }
        let (_, conditions) = evaluate(&before, stored(3).1, 5000, 1, now);
        assert_eq!((conditions[2].status.as_str(), conditions[2].reason.as_str()), ("False", "Sufficient"));
    }

    #[test]
    fn without_a_measurement_or_a_volume_it_is_unknown_whether_storage_is_low() {
        let now = Timestamp::from_second(1_000).unwrap();
        let reason = |answer| evaluate(&PingPipelineStatus::default(), answer, 5000, 1, now).1[2].reason.clone();
        assert_eq!(reason(count(5, 10)), "NotMeasured");
        assert_eq!(reason(stored(8).1), "VolumeUnknown");
    }

    #[test]
    fn figures_of_the_storage_are_written_at_most_once_per_interval() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (nothing, answer) = stored(3);
        let (stats, conditions) = evaluate(&nothing, answer, 5000, 1, at(1_000));
        let before = PingPipelineStatus { stats, conditions, ..nothing };
        let due = |used, second| {
            let (stats, conditions) = evaluate(&before, stored(used).1, 5000, 1, at(second));
            is_due(&before, stats.as_ref(), &conditions, Duration::from_secs(10), at(second))
        };
        assert!(!due(3, 1_040) && !due(4, 1_009) && due(4, 1_010));
        assert!(due(8, 1_001), "it is low");

        // The summary is the same, and the message has another growth.
        let answer =
            || stored(3).1.map(|count| count.map(|count| Count { storage: not_growing(count.storage), ..count }));
        let evaluated = |before: &PingPipelineStatus, second| {
            let (stats, conditions) = evaluate(before, answer(), 5000, 1, at(second));
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
}
