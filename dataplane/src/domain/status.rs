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
    pub not_when: Threshold,
    /// Reached, and the other is not: `Yes`.
    pub yes_when: Threshold,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// For ever.
    Not,
    /// Until it turns out to be not.
    Yes,
    /// Too little happened.
    Unknown,
}

/// How often a source did what the rule asks for; no more than the rule wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Events of the kind of `not_when`, at most its threshold.
    pub not: i64,
    /// Events of the kind of `yes_when`, at most its threshold.
    pub yes: i64,
}

impl StatusRule {
    /// What a source of which there are so many events per kind has to say for itself.
    #[must_use]
    pub fn evidence(&self, count: impl Fn(&str) -> i64) -> Evidence {
        let of = |threshold: &Threshold| count(&threshold.kind).min(threshold.at_least);
        Evidence { not: of(&self.not_when), yes: of(&self.yes_when) }
    }

    /// What it is.
    #[must_use]
    pub fn judge(&self, evidence: Evidence) -> Status {
        if self.is_final(evidence) {
            Status::Not
        } else if evidence.yes >= self.yes_when.at_least {
            Status::Yes
        } else {
            Status::Unknown
        }
    }

    /// Whether nothing that happens can change it.
    #[must_use]
    pub fn is_final(&self, evidence: Evidence) -> bool {
        evidence.not >= self.not_when.at_least
    }

    /// Whether events of `kind` count.
    #[must_use]
    pub fn asks_for(&self, kind: &str) -> bool {
        *self.not_when.kind == *kind || *self.yes_when.kind == *kind
    }
}

/// Two rules that differ have texts that differ: what is cached under one is never read under another.
impl fmt::Display for StatusRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { not_when, yes_when } = self;
        write!(out, "{}={}:{}={}", not_when.kind, not_when.at_least, yes_when.kind, yes_when.at_least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_decides() {
        let rule = StatusRule { not_when: "bounced=1".parse().unwrap(), yes_when: "delivered=1000".parse().unwrap() };
        let judge = |bounced: i64, delivered: i64| {
            rule.judge(rule.evidence(|kind| match kind {
                "bounced" => bounced,
                "delivered" => delivered,
                _ => 7,
            }))
        };
        assert_eq!([judge(0, 0), judge(0, 999), judge(0, 1_000)], [Status::Unknown, Status::Unknown, Status::Yes]);
        assert_eq!([judge(1, 0), judge(1, 5_000), judge(9, 999)], [Status::Not; 3]);
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
