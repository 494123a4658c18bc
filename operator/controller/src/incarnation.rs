//! Changes of incarnation that servers report: Postgres or the topic went back. What `Exact` says about them, and when to publish an event.
//! Pure.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use ping_api::{crd::status::Stats, reason::Reason};

use crate::condition::{ConditionValue, whole_second};

/// How long a change is shown, in milliseconds: a week. Dead letters are kept for a month by default.
pub(crate) const SHOWN_FOR_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// What exists in several incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incarnation {
    /// Postgres: it was restored to an earlier time, or a failover lost commits.
    Store,
    /// The topic: it was created again.
    Log,
}

/// The last change of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncarnationChange {
    /// What has changed.
    pub of: Incarnation,
    /// When a processor first noticed it, in milliseconds since the Unix epoch.
    pub noticed_ms: i64,
    /// Events that were sent to the dead letters because of it.
    pub phantom_events: i64,
}

impl IncarnationChange {
    /// Whether it is still shown.
    pub(crate) fn is_shown(&self, now: Timestamp) -> bool {
        now.as_millisecond().saturating_sub(self.noticed_ms) < SHOWN_FOR_MS
    }

    /// Reason and message, for `Exact` and for the event.
    pub(crate) fn describe(&self) -> (Reason, String) {
        let at = self.noticed_at().map_or_else(|| "an unknown time".into(), |at| at.to_string());
        match self.of {
            Incarnation::Store => {
                let message = format!(
                    "the count is exact for what Postgres has, but at {at} Postgres lacked acknowledged events: it was restored, or a failover \
                     lost commits. {} of them are dead letters: list and resend them with `kubectl pingpipeline dead-letters`",
                    self.phantom_events
                );
                (Reason::StoreWentBack, message)
            }
            Incarnation::Log => {
                let message = format!(
                    "every acknowledged event is counted exactly once. At {at} the topic had been created again, so all counts were rebuilt \
                     from Postgres; other consumers of the topic have lost events"
                );
                (Reason::LogRecreated, message)
            }
        }
    }

    /// The value of `Exact` while counts are exact.
    pub(crate) fn exact(&self) -> ConditionValue {
        let (reason, message) = self.describe();
        ConditionValue::met(reason, message)
    }

    fn noticed_at(&self) -> Option<Timestamp> {
        Some(whole_second(Timestamp::from_millisecond(self.noticed_ms).ok()?))
    }
}

/// When the last change that is still shown was noticed: that of the answer, or an earlier one that this answer does not have, because its
/// server has just started.
pub(crate) fn last_changed_at(
    before: Option<&Stats>,
    change: Option<&IncarnationChange>,
    now: Timestamp,
) -> Option<Time> {
    let known = before.and_then(|before| Some(before.incarnation_changed_at.as_ref()?.0));
    let noticed = change.and_then(IncarnationChange::noticed_at);
    let oldest = now.as_millisecond().saturating_sub(SHOWN_FOR_MS);
    known.max(noticed).filter(|at| at.as_millisecond() > oldest).map(Time)
}

/// Whether `stats` have a change that `before` does not have: then an event is published, once.
#[must_use]
pub fn is_new(before: Option<&Stats>, stats: Option<&Stats>) -> bool {
    let at = |stats: Option<&Stats>| stats.and_then(|stats| Some(stats.incarnation_changed_at.as_ref()?.0));
    at(stats) > at(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICED: i64 = 1_728_926_331_500;

    fn change(of: Incarnation) -> IncarnationChange {
        IncarnationChange { of, noticed_ms: NOTICED, phantom_events: 2_000 }
    }

    fn after(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(NOTICED + ms).unwrap()
    }

    /// The stats after an answer with `change`.
    fn stats(before: Option<&Stats>, change: Option<&IncarnationChange>, now: Timestamp) -> Stats {
        Stats { incarnation_changed_at: last_changed_at(before, change, now), ..Stats::default() }
    }

    #[test]
    fn each_change_is_announced_once_whatever_the_next_servers_answer() {
        let store = change(Incarnation::Store);
        let first = stats(None, Some(&store), after(500));
        assert!(is_new(None, Some(&first)) && is_new(Some(&Stats::default()), Some(&first)));
        // One that has just started does not know it yet.
        let second = stats(Some(&first), None, after(1_500));
        let third = stats(Some(&second), Some(&IncarnationChange { phantom_events: 2_001, ..store }), after(2_500));
        assert!(!is_new(Some(&first), Some(&second)) && !is_new(Some(&second), Some(&third)));
        let later = IncarnationChange { noticed_ms: NOTICED + 60_000, ..store };
        let fourth = stats(Some(&third), Some(&later), after(60_500));
        assert!(is_new(Some(&third), Some(&fourth)));
        assert!(!is_new(Some(&fourth), Some(&stats(Some(&fourth), Some(&store), after(61_000)))), "an old answer");
        assert!(!is_new(Some(&fourth), None));
    }

    #[test]
    fn a_change_is_shown_for_a_week() {
        let store = change(Incarnation::Store);
        assert!(store.is_shown(after(SHOWN_FOR_MS - 1)) && !store.is_shown(after(SHOWN_FOR_MS)));
        let shown = stats(None, Some(&store), after(SHOWN_FOR_MS - 1_000));
        assert!(shown.incarnation_changed_at.is_some());
        let hidden = stats(Some(&shown), Some(&store), after(SHOWN_FOR_MS));
        assert!(hidden.incarnation_changed_at.is_none() && !is_new(Some(&shown), Some(&hidden)));
    }

    #[test]
    fn a_description_says_what_happened_and_what_to_do() {
        let (reason, message) = change(Incarnation::Store).describe();
        assert_eq!(reason, Reason::StoreWentBack);
        for part in ["2024-10-14T17:18:51Z", "2000 of them", "kubectl pingpipeline dead-letters"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
        let (reason, message) = change(Incarnation::Log).describe();
        assert!(reason == Reason::LogRecreated && message.contains("rebuilt from Postgres"), "{message}");
        assert!(change(Incarnation::Log).exact().is_met());
    }
}
