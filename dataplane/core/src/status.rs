//! The status of a source: a rule over how often it did what.

use std::{fmt, str::FromStr};

/// At least so many events of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// What happened, as an event says it: empty for "ping".
    pub kind: Box<str>,
    /// How often; at least once.
    pub at_least: i64,
}

/// Why a threshold cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is not a threshold; write a kind and how many, 1 to 1000000000, like bounced=1")]
pub struct ThresholdError(String);

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let parse = || {
            let (kind, at_least) = text.rsplit_once('=')?;
            let at_least = at_least.parse().ok().filter(|count| (1..=1_000_000_000).contains(count))?;
            let fits = !kind.is_empty() && kind.len() <= super::MAX_KIND_BYTES;
            fits.then(|| Self { kind: if kind == "ping" { "".into() } else { kind.into() }, at_least })
        };
        parse().ok_or_else(|| ThresholdError(text.to_owned()))
    }
}

/// When a source is what. Counts only grow, so a `Not` is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRule {
    /// Reached: `Not`, whatever else happens.
    pub negative_when: Threshold,
    /// Reached, and the other is not: `Yes`.
    pub positive_when: Threshold,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For ever.
    Negative,
    /// Until it turns out to be not.
    Positive,
    /// Too little happened.
    Unknown,
}

/// How often a source did what the rule asks for; no more than the rule wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts {
    /// Events of the kind of `negative_when`, at most its threshold.
    pub negative: i64,
    /// Events of the kind of `positive_when`, at most its threshold.
    pub positive: i64,
}

impl StatusRule {
    /// What a source of which there are so many events per kind has to say for itself.
    #[must_use]
    pub fn counts(&self, count: impl Fn(&str) -> i64) -> StatusCounts {
        let of = |threshold: &Threshold| count(&threshold.kind).min(threshold.at_least);
        StatusCounts { negative: of(&self.negative_when), positive: of(&self.positive_when) }
    }

    /// What it is.
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

    /// Whether nothing that happens can change it.
    #[must_use]
    pub fn is_final(&self, counts: StatusCounts) -> bool {
        counts.negative >= self.negative_when.at_least
    }

    /// Whether events of `kind` count.
    #[must_use]
    pub fn asks_for(&self, kind: &str) -> bool {
        *self.negative_when.kind == *kind || *self.positive_when.kind == *kind
    }
}

/// Two rules that differ have texts that differ: what is cached under one is never read under another.
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
        let rule = StatusRule {
            negative_when: "bounced=1".parse().unwrap(),
            positive_when: "delivered=1000".parse().unwrap(),
        };
        let judge = |bounced: i64, delivered: i64| {
            rule.judge(rule.counts(|kind| match kind {
                "bounced" => bounced,
                "delivered" => delivered,
                _ => 7,
            }))
        };
        assert_eq!(
            [judge(0, 0), judge(0, 999), judge(0, 1_000)],
            [Verdict::Unknown, Verdict::Unknown, Verdict::Positive]
        );
        assert_eq!([judge(1, 0), judge(1, 5_000), judge(9, 999)], [Verdict::Negative; 3]);
        assert!(rule.asks_for("bounced") && !rule.asks_for("opened"));
    }

    #[test]
    fn a_threshold_is_a_kind_and_a_number() {
        assert_eq!("ping=3".parse(), Ok(Threshold { kind: "".into(), at_least: 3 }));
        assert_eq!("a=b=2".parse(), Ok(Threshold { kind: "a=b".into(), at_least: 2 }));
        for wrong in ["bounced", "bounced=0", "=1", "bounced=-1", "bounced=many", ""] {
            assert!(wrong.parse::<Threshold>().unwrap_err().to_string().contains("bounced=1"), "{wrong}");
        }
    }
}
