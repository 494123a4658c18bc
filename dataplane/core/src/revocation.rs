//! Revocations: events that take back a negative status.
//!
//! A revocation is an event of the source like any other: the log carries it, the views count it, a rebuild finds it. What it revokes is in
//! its kind, because counts per kind are all that a status follows from.

use std::collections::BTreeMap;

/// How the kind of a revocation begins. Callers cannot send such kinds.
const PREFIX: &str = "~revoked:";

/// Number of events per kind.
pub type KindCounts = BTreeMap<Box<str>, i64>;

/// Kinds from `first` to `last`, both included, compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindRange {
    /// The first kind.
    pub first: Box<str>,
    /// The last kind.
    pub last: Box<str>,
}

impl KindRange {
    pub(super) fn one(kind: &str) -> Self {
        Self { first: kind.into(), last: kind.into() }
    }

    /// Whether `kind` is one of them.
    #[must_use]
    pub fn contains(&self, kind: &str) -> bool {
        (&*self.first..=&*self.last).contains(&kind)
    }
}

/// Says that the first `events` events of a kind from a source do not count against it. Of several revocations, the highest number counts,
/// so they may be recorded twice and in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The kind of the revoked events, as in [`Event::kind`](crate::Event): empty for "ping".
    pub kind: Box<str>,
    /// How many are revoked.
    pub events: i64,
}

impl Revocation {
    /// The kind of the event that records it, at most 93 bytes: `~revoked:<kind>:<events>`.
    #[must_use]
    pub fn to_kind(&self) -> String {
        format!("{}{}", prefix(&self.kind), self.events)
    }

    /// The revocation of events of the kind `of` that an event of kind `kind` records; `None` if it records none.
    pub(super) fn parse(kind: &str, of: &str) -> Option<Self> {
        if !is_reserved_kind(kind) {
            return None;
        }
        let events = kind.strip_prefix(&*prefix(of))?;
        let events = events.parse().ok().filter(|number: &i64| *number >= 0 && number.to_string() == events)?;
        Some(Self { kind: of.into(), events })
    }

    /// All kinds that record revocations of events of the kind `of`, and some others.
    pub(super) fn kinds(of: &str) -> KindRange {
        let prefix = prefix(of);
        // No number has more digits, and all begin with one.
        KindRange { first: format!("{prefix}0").into(), last: format!("{prefix}9999999999999999999").into() }
    }
}

fn prefix(of: &str) -> String {
    format!("{PREFIX}{}:", if of.is_empty() { "ping" } else { of })
}

/// Whether only the server may record events of this kind.
pub(super) fn is_reserved_kind(kind: &str) -> bool {
    kind.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_survives_as_a_kind() {
        for (kind, of) in [("failed", "failed"), ("", "ping"), ("a:1", "a:1")] {
            for events in [0, 1, 42, i64::MAX] {
                let revocation = Revocation { kind: kind.into(), events };
                let text = revocation.to_kind();
                assert_eq!(text, format!("~revoked:{of}:{events}"));
                assert!(Revocation::kinds(kind).contains(&text), "{text}");
                assert_eq!(Revocation::parse(&text, kind), Some(revocation));
            }
        }
        let longest = Revocation { kind: "x".repeat(64).into(), events: i64::MAX };
        assert_eq!(longest.to_kind().len(), 93);
    }

    #[test]
    fn other_kinds_are_not_revocations() {
        let kinds = ["failed", "~revoked:failed", "~revoked:failed:", "~revoked:failed:-1", "~revoked:failed:+1"];
        let more =
            ["~revoked:failed:01", "~revoked:failed:1:3", "~revoked:other:1", "~revoked:failed:9223372036854775808"];
        for kind in kinds.into_iter().chain(more) {
            assert_eq!(Revocation::parse(kind, "failed"), None, "{kind}");
        }
    }
}
