//! The status of a source: a rule over its counts per kind.

use std::{fmt, str::FromStr};

use super::event::MAX_KIND_BYTES;

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
#[error("\"{0}\" is not a threshold; write KIND=COUNT with a count from 1 to 1000000000, like failed=1")]
pub struct ThresholdError(String);

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let parse = || {
            let (kind, at_least) = text.rsplit_once('=')?;
            let at_least = at_least.parse().ok().filter(|count| (1..=1_000_000_000).contains(count))?;
            let fits = !kind.is_empty() && kind.len() <= MAX_KIND_BYTES;
            fits.then(|| Self { kind: if kind == "ping" { "".into() } else { kind.into() }, at_least })
        };
        parse().ok_or_else(|| ThresholdError(text.to_owned()))
    }
}

/// Which counts give a source which status. Counts only grow, so a negative status is permanent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRule {
    /// Once reached, the status is negative, whatever else happens.
    pub negative_when: Threshold,
    /// Once reached, the status is positive, unless it is negative.
    pub positive_when: Threshold,
}

/// The status of a source, as the rule decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The negative threshold is reached. Permanent.
    Negative,
    /// The positive threshold is reached. May become negative.
    Positive,
    /// Neither threshold is reached.
    Unknown,
}

/// The counts of a source that its status depends on, each capped at its threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts {
    /// Events of the kind of `negative_when`, at most its threshold.
    pub negative: i64,
    /// Events of the kind of `positive_when`, at most its threshold.
    pub positive: i64,
}

impl StatusRule {
    /// The counts that the rule needs; `count` gives the number of events of a kind.
    #[must_use]
    pub fn counts(&self, count: impl Fn(&str) -> i64) -> StatusCounts {
        let of = |threshold: &Threshold| count(&threshold.kind).min(threshold.at_least);
        StatusCounts { negative: of(&self.negative_when), positive: of(&self.positive_when) }
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

    /// Whether no further event can change the status.
    #[must_use]
    pub fn is_final(&self, counts: StatusCounts) -> bool {
        counts.negative >= self.negative_when.at_least
    }

    /// Whether the status depends on events of `kind`.
    #[must_use]
    pub fn counts_kind(&self, kind: &str) -> bool {
        *self.negative_when.kind == *kind || *self.positive_when.kind == *kind
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
    use super::*;

    #[test]
    fn the_rule_decides() {
        let rule =
            StatusRule { negative_when: "failed=1".parse().unwrap(), positive_when: "succeeded=1000".parse().unwrap() };
        let status = |failed: i64, succeeded: i64| {
            rule.judge(rule.counts(|kind| match kind {
                "failed" => failed,
                "succeeded" => succeeded,
                _ => 7,
            }))
        };
        assert_eq!(
            [status(0, 0), status(0, 999), status(0, 1_000)],
            [Verdict::Unknown, Verdict::Unknown, Verdict::Positive]
        );
        assert_eq!([status(1, 0), status(1, 5_000), status(9, 999)], [Verdict::Negative; 3]);
        assert!(rule.counts_kind("failed") && !rule.counts_kind("opened"));
    }

    #[test]
    fn a_threshold_is_a_kind_and_a_number() {
        assert_eq!("ping=3".parse(), Ok(Threshold { kind: "".into(), at_least: 3 }));
        assert_eq!("a=b=2".parse(), Ok(Threshold { kind: "a=b".into(), at_least: 2 }));
        for wrong in ["failed", "failed=0", "=1", "failed=-1", "failed=many", ""] {
            assert!(wrong.parse::<Threshold>().unwrap_err().to_string().contains("failed=1"), "{wrong}");
        }
    }
}
