//! The status of a source: a rule over its counts per kind.

use std::{fmt, str::FromStr};

use super::{
    event::MAX_KIND_BYTES,
    revocation::{KindCounts, KindRange, Revocation, is_reserved_kind},
};

/// At least a given number of events of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The kind, as in [`Event::kind`](crate::Event): empty for "ping".
    pub kind: Box<str>,
    /// How many events; at least 1.
    pub at_least: i64,
}

/// A text that is not a threshold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "\"{0}\" is not a threshold; write KIND=COUNT with a count from 1 to 1000000000 and a kind that events can have, like failed=1"
)]
pub struct ThresholdError(String);

impl Threshold {
    /// How many events a cached status must at least be able to take before it changes: half of the threshold, rounded up.
    #[must_use]
    pub fn margin(&self) -> i64 {
        (self.at_least + 1) / 2
    }

    /// After how many events of some sources together a checkpoint holds their cached statuses: a quarter of the margin. Since a status
    /// was read, a processor commits fewer than two intervals without a hold: one that it had counted before, and one that it counts later.
    /// Two processors may count events of a source at a time, when the log has grown by a partition.
    #[must_use]
    pub fn hold_interval(&self) -> i64 {
        (self.margin() / 4).max(1)
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let parse = || {
            let (kind, at_least) = text.rsplit_once('=')?;
            let at_least = at_least.parse().ok().filter(|count| (1..=1_000_000_000).contains(count))?;
            let fits = !kind.is_empty() && kind.len() <= MAX_KIND_BYTES && !is_reserved_kind(kind);
            fits.then(|| Self { kind: if kind == "ping" { "".into() } else { kind.into() }, at_least })
        };
        parse().ok_or_else(|| ThresholdError(text.to_owned()))
    }
}

/// Which counts give a source which status. Counts only grow, so a negative status stays until it is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRule {
    /// Once reached by events that are not revoked, the status is negative, whatever other events happen.
    pub negative_when: Threshold,
    /// Once reached, the status is positive, unless it is negative.
    pub positive_when: Threshold,
}

/// The status of a source, as the rule decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The negative threshold is reached. Only a revocation changes it.
    Negative,
    /// The positive threshold is reached. May become negative.
    Positive,
    /// Neither threshold is reached.
    Unknown,
}

/// The counts of a source that its status depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts {
    /// Events of the kind of `negative_when` that are not revoked, at most its threshold.
    pub negative: i64,
    /// How many events of that kind are revoked.
    pub revoked: i64,
    /// Events of the kind of `positive_when`, at most its threshold.
    pub positive: i64,
}

impl StatusRule {
    /// The counts that the rule needs, from those of [`Self::kinds`].
    #[must_use]
    pub fn counts(&self, kinds: &KindCounts) -> StatusCounts {
        let Self { negative_when, positive_when } = self;
        let of = |threshold: &Threshold| kinds.get(&threshold.kind).copied().unwrap_or(0);
        let revocations = kinds.keys().filter_map(|kind| Revocation::parse(kind, &negative_when.kind));
        let revoked = revocations.map(|revocation| revocation.events).max().unwrap_or(0);
        StatusCounts {
            negative: (of(negative_when) - revoked).clamp(0, negative_when.at_least),
            revoked,
            positive: of(positive_when).min(positive_when.at_least),
        }
    }

    /// What takes back the negative status of a source with these counts per kind; `None` if it is not negative.
    #[must_use]
    pub fn revocation(&self, kinds: &KindCounts) -> Option<Revocation> {
        let kind = &self.negative_when.kind;
        let events = kinds.get(kind).copied().filter(|_| self.is_final(self.counts(kinds)))?;
        Some(Revocation { kind: kind.clone(), events })
    }

    /// The kinds that the status depends on.
    #[must_use]
    pub fn kinds(&self) -> [KindRange; 3] {
        let of = |threshold: &Threshold| KindRange::one(&threshold.kind);
        [of(&self.negative_when), of(&self.positive_when), Revocation::kinds(&self.negative_when.kind)]
    }

    /// The status of a source with these counts.
    #[must_use]
    pub fn judge(&self, counts: StatusCounts) -> Verdict {
        if self.is_final(counts) {
            Verdict::Negative
        } else if counts.positive >= self.positive_when.at_least {
            Verdict::Positive
        } else {
            Verdict::Unknown
        }
    }

    /// Whether no further event can change the status, but for a revocation.
    #[must_use]
    pub fn is_final(&self, counts: StatusCounts) -> bool {
        counts.negative >= self.negative_when.at_least
    }

    /// Whether the status may change after fewer events than the margin of their threshold.
    #[must_use]
    pub fn is_near(&self, counts: StatusCounts) -> bool {
        let close = |count, threshold: &Threshold| {
            count < threshold.at_least && count > threshold.at_least - threshold.margin()
        };
        close(counts.negative, &self.negative_when)
            || (close(counts.positive, &self.positive_when) && !self.is_final(counts))
    }

    /// Whether `kind` is that of a revocation that the status depends on.
    #[must_use]
    pub fn is_revocation(&self, kind: &str) -> bool {
        Revocation::parse(kind, &self.negative_when.kind).is_some()
    }
}

/// Different rules have different texts, so counts cached under one rule are never read under another.
impl fmt::Display for StatusRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { negative_when, positive_when } = self;
        write!(
            out,
            "{}={}:{}={}",
            negative_when.kind, negative_when.at_least, positive_when.kind, positive_when.at_least
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(negative_when: &str, positive_when: &str) -> StatusRule {
        StatusRule { negative_when: negative_when.parse().unwrap(), positive_when: positive_when.parse().unwrap() }
    }

    fn kinds(counts: &[(&str, i64)]) -> KindCounts {
        counts.iter().map(|(kind, count)| ((*kind).into(), *count)).collect()
    }

    fn counts(rule: &StatusRule, all: &[(&str, i64)]) -> StatusCounts {
        rule.counts(&kinds(all))
    }

    #[test]
    fn the_rule_decides() {
        let rule = rule("failed=1", "succeeded=1000");
        let status =
            |failed: i64, succeeded: i64| rule.judge(counts(&rule, &[("failed", failed), ("succeeded", succeeded)]));
        assert_eq!(
            [status(0, 0), status(0, 999), status(0, 1_000)],
            [Verdict::Unknown, Verdict::Unknown, Verdict::Positive]
        );
        assert_eq!([status(1, 0), status(1, 5_000), status(9, 999)], [Verdict::Negative; 3]);
        assert!(rule.is_revocation("~revoked:failed:1") && !rule.is_revocation("failed"));
    }

    #[test]
    fn a_threshold_is_a_kind_and_a_number() {
        assert_eq!("ping=3".parse(), Ok(Threshold { kind: "".into(), at_least: 3 }));
        assert_eq!("a=b=2".parse(), Ok(Threshold { kind: "a=b".into(), at_least: 2 }));
        for wrong in ["failed", "failed=0", "=1", "failed=-1", "failed=many", "", "~revoked:failed:3=1"] {
            assert!(wrong.parse::<Threshold>().unwrap_err().to_string().contains("failed=1"), "{wrong}");
        }
    }

    #[test]
    fn a_revocation_takes_back_the_events_up_to_it_and_no_later_one() {
        let rule = rule("failed=2", "succeeded=1");
        let before = kinds(&[("failed", 5), ("succeeded", 1)]);
        let revocation = rule.revocation(&before).unwrap();
        assert_eq!(revocation, Revocation { kind: "failed".into(), events: 5 });
        let after = |failed: i64| {
            let mut kinds = kinds(&[("failed", failed), ("succeeded", 1)]);
            kinds.insert(revocation.to_kind().into(), 1);
            (rule.judge(rule.counts(&kinds)), rule.revocation(&kinds).map(|revocation| revocation.events))
        };
        assert_eq!(after(5), (Verdict::Positive, None));
        assert_eq!([after(6), after(7)], [(Verdict::Positive, None), (Verdict::Negative, Some(7))]);
        // It may be counted before the events that it revokes, if the log has grown by a partition.
        assert_eq!(after(3), (Verdict::Positive, None));
        assert_eq!(rule.revocation(&kinds(&[("failed", 1)])), None);
        assert_eq!(rule.revocation(&KindCounts::new()), None);
    }

    #[test]
    fn a_revocation_counts_for_its_kind_only() {
        let revoked = kinds(&[("failed", 3), ("", 3), ("~revoked:failed:3", 1), ("~revoked:failed:x", 1)]);
        let judge = |rule: &StatusRule| rule.judge(rule.counts(&revoked));
        assert_eq!(judge(&rule("failed=1", "x=1")), Verdict::Unknown);
        assert_eq!(judge(&rule("ping=1", "x=1")), Verdict::Negative);
        assert!(rule("failed=1", "x=1").is_revocation("~revoked:failed:7"));
        assert!(!rule("ping=1", "x=1").is_revocation("~revoked:failed:7"));
    }

    proptest! {
        /// A status that is not near takes the margin of a threshold before it changes, whatever else is counted in between.
        #[test]
        fn a_status_that_is_not_near_does_not_change_within_the_margin(
            negative_when in 1_i64..9, positive_when in 1_i64..9, failed in 0_i64..12, succeeded in 0_i64..12,
            more_failed in 0_i64..9, more_succeeded in 0_i64..9,
        ) {
            let rule = rule(&format!("failed={negative_when}"), &format!("succeeded={positive_when}"));
            let status = |failed, succeeded| counts(&rule, &[("failed", failed), ("succeeded", succeeded)]);
            let before = status(failed, succeeded);
            let within = more_failed < rule.negative_when.margin() && more_succeeded < rule.positive_when.margin();
            if within && !rule.is_near(before) {
                let after = status(failed + more_failed, succeeded + more_succeeded);
                prop_assert_eq!(rule.judge(after), rule.judge(before));
            }
        }

        /// Two processors together commit less than the margin before one of them holds the node.
        #[test]
        fn two_processors_hold_a_node_within_the_margin(at_least in 1_i64..3_000) {
            let threshold = Threshold { kind: "".into(), at_least };
            let (margin, interval) = (threshold.margin(), threshold.hold_interval());
            prop_assert!(interval == 1 || 2 * (2 * interval - 1) < margin);
        }
    }
}
