//! Conditions: their types, documented in `docs/operator/conditions.md`, and how times of transition are kept.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::reason::Reason;

macro_rules! condition_types {
    ($(#[doc = $doc:literal] $name:ident,)+) => {
        /// What a condition is about, and what it means that it is True.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ConditionType {
            $(#[doc = $doc] $name,)+
        }

        impl ConditionType {
            /// All of them, with what it means that they are True.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, $doc),)+];
        }
    };
}

condition_types! {
    /// all Postgres instances work, and the primary is settled
    PostgresReady,
    /// Kafka, its topics and both users are ready
    KafkaReady,
    /// all pods of the cache are ready
    CacheReady,
    /// all servers are available, at the current version
    ServerReady,
    /// all processors are available, at the current version
    ProcessorReady,
    /// no acknowledged ping can be lost together with one machine
    Durable,
    /// the number counts every acknowledged ping once
    Exact,
    /// the number is at most `spec.monitoring.freshWithinMs` old
    Fresh,
    /// all components are ready; this is what `kubectl wait --for=condition=Ready pp/<name>` waits for
    Ready,
    /// something is on its way (as kstatus reads it)
    Reconciling,
    /// it will not get better by itself: the spec has to be changed (as kstatus reads it)
    Stalled,
}

impl ConditionType {
    /// True for the two that are written together with the figures, by their own field manager.
    #[must_use]
    pub fn is_figure(self) -> bool {
        matches!(self, Self::Exact | Self::Fresh)
    }
}

impl std::fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, formatter)
    }
}

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
