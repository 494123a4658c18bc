//! Conditions: their types, documented in `docs/operator/conditions.md`, and how times of transition are kept.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::reason::Reason;

/// Status, reason and message of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    status: &'static str,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, and what to do next.
    pub message: String,
}

impl Verdict {
    /// It is so.
    pub fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: "True", reason, message: message.into() }
    }

    /// It is not so.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: "False", reason, message: message.into() }
    }

    /// Nobody knows.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason, message: message.into() }
    }

    /// True when it is so.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// Kubernetes allows messages of this many bytes.
const MESSAGE_BYTES: usize = 32_768;

/// Turns verdicts into conditions. What was judged before and is not judged now is kept, except for the figures, which
/// another field manager owns. Times of transition change with the status only.
#[must_use]
pub fn conditions(
    previous: &[Condition],
    verdicts: Vec<(ConditionType, Verdict)>,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let kept = ConditionType::ALL.iter().map(|(kind, _)| *kind).filter(|kind| !kind.is_figure());
    kept.filter_map(|kind| {
        let before = previous.iter().find(|condition| condition.type_ == kind.to_string());
        match verdicts.iter().find(|(judged, _)| *judged == kind) {
            Some((_, verdict)) => Some(condition(before, kind, verdict, generation, now)),
            None => before.cloned(),
        }
    })
    .collect()
}

/// One condition, with the time of its last transition.
#[must_use]
pub fn condition(
    before: Option<&Condition>,
    kind: ConditionType,
    verdict: &Verdict,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let since = before
        .filter(|before| before.status == verdict.status)
        .map_or_else(|| Time(whole_second(now)), |before| before.last_transition_time.clone());
    let mut message = verdict.message.clone();
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
    Condition {
        type_: kind.to_string(),
        status: verdict.status.into(),
        reason: verdict.reason.to_string(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}

/// Kubernetes keeps whole seconds; anything finer would differ from what it gives back.
#[must_use]
pub fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
