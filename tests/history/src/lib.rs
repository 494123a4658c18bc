//! Checks what callers saw while something failed. Record every call with its interval and its outcome in a [`History`]; [`History::check`]
//! returns each answer that breaks a promise.
//!
//! All times are microseconds of one clock, the one that `as_of_ms` is read from: let callers and servers share a machine. A call whose
//! interval touches another's is concurrent with it, so a coarse clock can hide a violation, but never invent one.
//!
//! Here belongs what follows from calls alone. Callers, faults and comparisons with stored rows belong to the tests that use it.

mod counts;
mod statuses;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::HashMap;

use uuid::Uuid;

pub use violation::Violation;

/// Microseconds since the Unix epoch, or since any other time that the whole history counts from.
pub type Micros = i64;

/// From when a call was sent until its answer was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Just before the call was sent.
    pub began: Micros,
    /// Just after its answer was there, or after the caller gave up.
    pub ended: Micros,
}

/// What a caller knows about an event after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Acknowledged,
    /// It was not recorded.
    Rejected,
    /// It may have been recorded.
    Unknown,
}

/// What a count includes, whatever its `as_of_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Includes {
    /// Nothing.
    AsOf,
    /// Every event acknowledged before the call is in it.
    Strong,
    /// This event is in it: the call passed its token.
    After(Uuid),
}

/// The answer to a call that counts all events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What the call asked for.
    pub includes: Includes,
    /// The number of events.
    pub count: i64,
    /// Every event acknowledged before this millisecond is in the count.
    pub as_of_ms: i64,
    /// Whether the answer says that it is exact. Nothing is checked otherwise.
    pub exact: bool,
}

/// The status of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It reached the negative threshold: only a revocation changes that.
    Final,
    /// Anything else.
    Open,
}

/// What is known about one event.
#[derive(Clone, Copy, Debug)]
struct Event {
    /// When the first call that may have recorded it was sent; none if every call was rejected.
    possible_from: Option<Micros>,
    /// When it was first acknowledged.
    acknowledged: Option<Micros>,
}

/// The calls of a test, in any order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Events that had been recorded before.
    before: i64,
    events: HashMap<Uuid, Event>,
    counts: Vec<(Interval, Count)>,
    /// Per source: what was read, and when.
    statuses: HashMap<Box<str>, Vec<(Interval, Status)>>,
    /// Per source: when a call that may have revoked its status was sent.
    revocations: HashMap<Box<str>, Vec<Micros>>,
}

impl History {
    /// A history that begins when `before` events have been recorded, and in which all other events are sent by its calls.
    #[must_use]
    pub fn after(before: i64) -> Self {
        Self { before, ..Self::default() }
    }

    /// Adds a call that sent `event`. Add each retry as a call of its own.
    pub fn record(&mut self, event: Uuid, at: Interval, outcome: Outcome) {
        let known = self.events.entry(event).or_insert(Event { possible_from: None, acknowledged: None });
        if outcome != Outcome::Rejected {
            known.possible_from = Some(known.possible_from.map_or(at.began, |earlier| earlier.min(at.began)));
        }
        if outcome == Outcome::Acknowledged {
            known.acknowledged = Some(known.acknowledged.map_or(at.ended, |earlier| earlier.min(at.ended)));
        }
    }

    /// Adds a call that counted all events.
    pub fn count(&mut self, at: Interval, answer: Count) {
        self.counts.push((at, answer));
    }

    /// Adds a call that read the status of `source`.
    pub fn status(&mut self, source: &str, at: Interval, status: Status) {
        self.statuses.entry(source.into()).or_default().push((at, status));
    }

    /// Adds a call that revoked the status of `source`, whatever its outcome.
    pub fn revocation(&mut self, source: &str, at: Interval) {
        self.revocations.entry(source.into()).or_default().push(at.began);
    }

    /// The number of events, acknowledged events, counts and statuses.
    #[must_use]
    pub fn sizes(&self) -> [usize; 4] {
        let acknowledged = self.events.values().filter(|event| event.acknowledged.is_some()).count();
        [self.events.len(), acknowledged, self.counts.len(), self.statuses.values().map(Vec::len).sum()]
    }

    /// Every answer that breaks a promise, each for its own reason. Empty: the history is correct.
    #[must_use]
    pub fn check(&self) -> Vec<Violation> {
        let mut violations = counts::check(self);
        violations.extend(statuses::check(self));
        violations
    }
}
