//! Values of conditions, and how transition times are kept.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use ping_api::{condition::ConditionType, crd::status::PingPipelineStatus, reason::Reason};

/// Status, reason and message of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionValue {
    status: &'static str,
    /// Machine-readable reason.
    pub reason: Reason,
    /// Explanation for users, with what to do next.
    pub message: String,
}

impl ConditionValue {
    /// The condition is `True`.
    pub fn met(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: "True", reason, message: message.into() }
    }

    /// The condition is `False`.
    pub fn not_met(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: "False", reason, message: message.into() }
    }

    /// The condition is `Unknown`.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason, message: message.into() }
    }

    /// True if the condition is `True`.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.status == "True"
    }
}

/// Longest message that Kubernetes accepts, in bytes.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// Turns values into conditions, in the order of `ConditionType::ALL`. A previous condition without a new value is kept, except
/// for those from the stats, which another field manager owns. Transition times change only with the status.
#[must_use]
pub fn conditions(
    previous: &[Condition],
    values: Vec<(ConditionType, ConditionValue)>,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let owned = ConditionType::ALL.iter().map(|(kind, _)| *kind).filter(|kind| !kind.is_from_stats());
    owned
        .filter_map(|kind| {
            let before = previous.iter().find(|condition| condition.type_ == kind.to_string());
            match values.iter().find(|(of, _)| *of == kind) {
                Some((_, value)) => Some(condition(before, kind, value, generation, now)),
                None => before.cloned(),
            }
        })
        .collect()
}

/// The condition `kind`, if it has been reported.
#[must_use]
pub fn find(status: &PingPipelineStatus, kind: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind.to_string())
}

/// One condition, with the time of its last transition.
#[must_use]
pub fn condition(
    before: Option<&Condition>,
    kind: ConditionType,
    value: &ConditionValue,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let since = before
        .filter(|before| before.status == value.status)
        .map_or_else(|| Time(whole_second(now)), |before| before.last_transition_time.clone());
    let mut message = value.message.clone();
    message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    Condition {
        type_: kind.to_string(),
        status: value.status.into(),
        reason: value.reason.to_string(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}

/// `time` rounded down to a second. Kubernetes stores whole seconds, so anything finer would differ from what it returns.
#[must_use]
pub fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
