//! Live stats: requests the count and its freshness from a server of each pipeline, and maintains `status.stats` and the
//! conditions `Exact`, `Fresh` and `StorageLow`. Uses its own field manager, so that reconciles and stats do not overwrite each other.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    api::PatchParams,
    runtime::{events::EventType, reflector::Store},
};
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
    condition::{ConditionValue, condition, find, whole_second},
    context::Context,
    error::chain,
    incarnation::{is_new, last_changed_at},
    report::{patch_status, publish_event},
    restored::{self, came_with_backup},
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
    let pipeline_name = names.clone().into();
    let count = match may_serve(status) {
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
    let change = count.as_ref().and_then(|count| count.as_ref().ok()?.incarnation_change);
    let now = Timestamp::now();
    let (stats, conditions) = evaluate(status, count, pipeline, now);
    if let Some(stats) = &stats {
        context.metrics.total(&pipeline_name, stats.total);
    }
    context.metrics.storage(&pipeline_name, estimate.as_ref());
    let new_change = change.filter(|_| is_new(status.stats.as_ref(), stats.as_ref()));
    if new_change.is_none() && !is_due(status, stats.as_ref(), &conditions, interval, now) {
        return;
    }
    let part = json!(PingPipelineStatus { stats, conditions, ..PingPipelineStatus::default() });
    let manager = PatchParams::apply(MANAGER).force();
    if let Err(error) = patch_status(pipeline, part, &manager, context).await {
        tracing::warn!(namespace = names.namespace, name = names.pipeline, error = chain(&error), "cannot write stats");
        return;
    }
    // Only now that the status has it: otherwise each failed write would be followed by another event.
    if let Some((reason, message)) = new_change.map(|change| change.describe()) {
        publish_event(pipeline, EventType::Warning, reason.as_str(), message, context).await;
    }
}

/// True unless no server is ready. Whether one is ready is unknown while the spec is refused.
fn may_serve(status: &PingPipelineStatus) -> bool {
    find(status, ConditionType::ServerReady).is_some_and(|ready| ready.status != "False")
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

/// The stats and conditions of `pipeline` that follow from `count`; `None` means that no server is ready. Pure.
#[must_use]
pub fn evaluate(
    before: &PingPipelineStatus,
    count: Option<Result<Count, StatsError>>,
    pipeline: &PingPipeline,
    now: Timestamp,
) -> (Option<Stats>, Vec<Condition>) {
    let generation = pipeline.metadata.generation.unwrap_or_default();
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
            let change = count.incarnation_change.filter(|change| !came_with_backup(change, before));
            let count = Count { incarnation_change: change, ..count };
            let fresh = freshness(&count, pipeline.spec.monitoring.fresh_within_ms);
            let stats = stats(before, &count, now);
            (Some(stats), exactness(&count, before, pipeline, now), fresh, storage_low(&count, before))
        }
    };
    let values = [(ConditionType::Exact, exact), (ConditionType::Fresh, fresh), (ConditionType::StorageLow, storage)];
    let conditions = values.map(|(kind, value)| {
        let previous = before.conditions.iter().find(|condition| condition.type_ == kind.to_string());
        let stays = |previous: &&Condition| match kind {
            ConditionType::StorageLow => stays_low(previous, &value),
            ConditionType::Exact => stays_changed(previous, &value, stats.as_ref()),
            _ => false,
        };
        match previous.filter(stays) {
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

/// A server that has just started does not know yet that an incarnation has changed.
fn stays_changed(previous: &Condition, value: &ConditionValue, stats: Option<&Stats>) -> bool {
    let is_shown = stats.is_some_and(|stats| stats.incarnation_changed_at.is_some());
    let was_shown = [Reason::StoreWentBack, Reason::LogRecreated].map(Reason::as_str).contains(&&*previous.reason);
    is_shown && was_shown && [Reason::CountedOnce, Reason::Restored].contains(&value.reason)
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

fn exactness(count: &Count, before: &PingPipelineStatus, pipeline: &PingPipeline, now: Timestamp) -> ConditionValue {
    match (count.exact, count.views_differ) {
        (true, false) => {
            let change = count.incarnation_change.filter(|change| change.is_shown(now));
            let recovery = pipeline.spec.postgres.cluster.as_ref().and_then(|cluster| cluster.recovery.as_ref());
            let counted =
                || ConditionValue::met(Reason::CountedOnce, "every acknowledged event is counted exactly once");
            let of_change = change.map(|change| change.exact());
            of_change.or_else(|| restored::exact(recovery, before, now)).unwrap_or_else(counted)
        }
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
        incarnation_changed_at: last_changed_at(before, count.incarnation_change.as_ref(), now),
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
mod tests;
