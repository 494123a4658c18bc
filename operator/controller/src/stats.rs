//! Live figures: asks a server of each pipeline how many pings there are and how good that answer is, and keeps
//! `status.figures`, `Exact` and `Fresh`. A field manager of its own: passes and figures do not overwrite each other.

mod client;

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
        status::{Figures, PingPipelineStatus},
    },
    names::Names,
    reason::Reason,
    roles::answering,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use self::client::{Answer, Ask, AskError, HttpAsk};
use crate::{
    condition::{Verdict, condition, whole_second},
    context::Context,
    error::chain,
    report::patch_status,
};

/// Field manager of the figures.
const MANAGER: &str = "ping-operator-figures";
/// Pipelines that are asked at the same time.
const CONCURRENCY: usize = 8;

/// Asks all pipelines of `store` every `interval` until `shutdown`.
pub async fn keep(
    context: Arc<Context>,
    store: Store<PingPipeline>,
    ask: Arc<dyn Ask>,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        futures::stream::iter(store.state())
            .for_each_concurrent(CONCURRENCY, async |pipeline| refresh(&pipeline, ask.as_ref(), &context).await)
            .await;
    }
}

/// Asks one pipeline and writes what changed.
async fn refresh(pipeline: &PingPipeline, ask: &dyn Ask, context: &Context) {
    let Some(status) = pipeline.status.as_ref().filter(|_| pipeline.metadata.deletion_timestamp.is_none()) else {
        return;
    };
    let serving = status
        .conditions
        .iter()
        .any(|condition| condition.type_ == ConditionType::ServerReady.to_string() && condition.status == "True");
    let answer = match serving {
        true => {
            let (names, server) = (Names::of(pipeline), &pipeline.spec.server);
            let service = names.part(answering(server).component());
            Some(ask.ask(&names, &service, server.service.port).await)
        }
        false => None,
    };
    let fresh_within_ms = pipeline.spec.monitoring.fresh_within_ms;
    let generation = pipeline.metadata.generation.unwrap_or_default();
    let (figures, conditions) = judge(status, answer, fresh_within_ms, generation, Timestamp::now());
    if let Some(figures) = &figures {
        context.metrics.total(&Names::of(pipeline), figures.total);
    }
    let known = |wanted: &Condition| status.conditions.contains(wanted);
    if status.figures == figures && conditions.iter().all(known) {
        return;
    }
    let part = json!(PingPipelineStatus { figures, conditions, ..PingPipelineStatus::default() });
    let manager = PatchParams::apply(MANAGER).force();
    if let Err(error) = patch_status(pipeline, part, &manager, context).await {
        let names = Names::of(pipeline);
        tracing::warn!(
            namespace = names.namespace,
            name = names.pipeline,
            error = chain(&error),
            "cannot write figures"
        );
    }
}

/// What the answer says about the pipeline. Pure.
#[must_use]
pub fn judge(
    before: &PingPipelineStatus,
    answer: Option<Result<Answer, AskError>>,
    fresh_within_ms: i64,
    generation: i64,
    now: Timestamp,
) -> (Option<Figures>, Vec<Condition>) {
    let (figures, exact, fresh) = match answer {
        None => {
            let verdict = Verdict::unknown(Reason::NotServing, "there is no ready server to ask; see ServerReady");
            (before.figures.clone(), verdict.clone(), verdict)
        }
        Some(Err(error)) => {
            let verdict = Verdict::unknown(Reason::NoAnswer, chain(&error));
            (before.figures.clone(), verdict.clone(), verdict)
        }
        Some(Ok(answer)) => {
            let (exact, fresh) = verdicts(&answer, fresh_within_ms);
            (Some(figures(before.figures.as_ref(), &answer, now)), exact, fresh)
        }
    };
    let judged = [(ConditionType::Exact, exact), (ConditionType::Fresh, fresh)];
    let conditions = judged.map(|(kind, verdict)| {
        let previous = before.conditions.iter().find(|condition| condition.type_ == kind.to_string());
        condition(previous, kind, &verdict, generation, now)
    });
    (figures, conditions.into())
}

fn verdicts(answer: &Answer, fresh_within_ms: i64) -> (Verdict, Verdict) {
    let exact = match answer.exact {
        true => Verdict::yes(Reason::CountedOnce, "every acknowledged ping is in the number once"),
        false => Verdict::no(
            Reason::Recounting,
            "the cache is being rebuilt or is in doubt; the number is right again when that is done",
        ),
    };
    let bound = format!("{fresh_within_ms} ms");
    let fresh = match answer.lag_ms <= fresh_within_ms {
        true => Verdict::yes(Reason::WithinBound, format!("the number is at most {bound} old")),
        false => Verdict::no(
            Reason::Lagging,
            format!(
                "the number is more than {bound} old: are the processors keeping up? See ProcessorReady and KafkaReady"
            ),
        ),
    };
    (exact, fresh)
}

fn figures(before: Option<&Figures>, answer: &Answer, now: Timestamp) -> Figures {
    let mut figures = Figures {
        total: answer.total,
        lag: lag(answer.lag_ms),
        store: answer.store.clone(),
        last_audit: answer.last_audit_ms.map(|at| age(now.as_millisecond().saturating_sub(at))),
        changed_at: before.and_then(|before| before.changed_at.clone()),
    };
    if before != Some(&figures) {
        figures.changed_at = Some(Time(whole_second(now)));
    }
    figures
}

/// A lag as people read it, coarse enough not to change all the time.
fn lag(milliseconds: i64) -> String {
    match milliseconds / 1000 {
        i64::MIN..=0 => "<1s".into(),
        seconds @ 1..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

/// The age of an audit: they come every few seconds, so minutes are fine enough.
fn age(milliseconds: i64) -> String {
    match milliseconds / 60_000 {
        i64::MIN..=0 => "<1m".into(),
        minutes @ 1..=119 => format!("{minutes}m"),
        minutes => format!("{}h", minutes / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(total: i64, lag_ms: i64) -> Option<Result<Answer, AskError>> {
        Some(Ok(Answer { total, lag_ms, exact: true, store: "cache".into(), last_audit_ms: Some(995_000) }))
    }

    #[test]
    fn the_same_answer_changes_nothing() {
        let now = Timestamp::from_second(1_000).unwrap();
        let (figures, conditions) = judge(&PingPipelineStatus::default(), answer(5, 10), 5000, 1, now);
        let before = PingPipelineStatus { figures, conditions, ..PingPipelineStatus::default() };
        let later = Timestamp::from_second(1_050).unwrap();
        let again = judge(&before, answer(5, 700), 5000, 1, later);
        assert_eq!(again, (before.figures.clone(), before.conditions.clone()));
    }

    #[test]
    fn audits_that_stay_away_are_told() {
        let told = |second| {
            let now = Timestamp::from_second(second).unwrap();
            judge(&PingPipelineStatus::default(), answer(5, 10), 5000, 1, now).0.unwrap().last_audit.unwrap()
        };
        assert_eq!([990, 1_054, 1_055, 8_194, 8_195].map(told), ["<1m", "<1m", "1m", "119m", "2h"]);
    }

    #[test]
    fn silence_keeps_the_last_figures_and_says_so() {
        let now = Timestamp::from_second(1_000).unwrap();
        let (figures, conditions) = judge(&PingPipelineStatus::default(), answer(5, 10), 5000, 1, now);
        let before = PingPipelineStatus { figures, conditions, ..PingPipelineStatus::default() };
        let (figures, conditions) = judge(&before, None, 5000, 1, now);
        assert_eq!(figures, before.figures);
        assert!(conditions.iter().all(|condition| condition.status == "Unknown" && condition.reason == "NotServing"));
    }

    #[test]
    fn a_number_older_than_asked_is_not_fresh() {
        let now = Timestamp::from_second(1_000).unwrap();
        let (_, conditions) = judge(&PingPipelineStatus::default(), answer(5, 5001), 5000, 1, now);
        assert_eq!(conditions[1].reason, "Lagging");
    }

    #[test]
    fn lags_are_coarse() {
        let texts = [-5, 999, 1_000, 119_000, 180_000, 7_200_000].map(lag);
        assert_eq!(texts, ["<1s", "<1s", "1s", "119s", "3m", "2h"]);
    }
}
