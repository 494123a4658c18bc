//! Result of a drill. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{fault::Fault, load::Events, watch::Recovery};
use crate::output::table;

/// One fault, and the events that were sent during it.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// Start of the fault.
    pub(crate) started: Timestamp,
    /// Description of the fault.
    pub(crate) fault: String,
    pub(crate) events: Events,
    /// Number of events of this round in the database.
    pub(crate) counted: i64,
    /// Whether the cache matches a recount of the database.
    pub(crate) cache_agrees: bool,
    pub(crate) recovery: Recovery,
}

impl Round {
    /// Events that were acknowledged but not counted.
    fn lost(&self) -> i64 {
        (signed(self.events.acknowledged) - self.counted).max(0)
    }

    /// Events that were counted more than once.
    fn double(&self) -> i64 {
        (self.counted - signed(self.events.acknowledged) - signed(self.events.unknown)).max(0)
    }

    fn is_exact(&self) -> bool {
        self.lost() == 0 && self.double() == 0 && self.cache_agrees
    }

    /// True if events were acknowledged, and none rejected.
    fn is_loaded(&self) -> bool {
        self.events.acknowledged > 0 && self.events.rejected.is_none()
    }

    /// Progress message.
    pub(crate) fn line(&self) -> String {
        let (ready, exact) = (self.recovery.ready_after, self.recovery.exact_after);
        format!(
            "{}: {} acknowledged, {} lost, {} double; Ready after {:.0} s, Exact after {:.0} s",
            self.fault,
            self.events.acknowledged,
            self.lost(),
            self.double(),
            ready.as_secs_f64(),
            exact.as_secs_f64()
        )
    }

    fn json(&self) -> Value {
        json!({
            "startedAt": self.started.to_string(), "fault": self.fault, "acknowledged": self.events.acknowledged,
            "unknown": self.events.unknown, "rejected": self.events.rejected.as_ref().map_or(0, |(number, _)| *number),
            "counted": self.counted, "lost": self.lost(), "double": self.double(), "cacheAgrees": self.cache_agrees,
            "readyAfterMs": ms(self.recovery.ready_after), "exactAfterMs": ms(self.recovery.exact_after),
            "slowestMs": ms(self.events.slowest), "counts": self.recovery.counts, "lateCounts": self.recovery.late,
        })
    }
}

/// Outcome of all rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No events were lost or counted twice.
    Exact,
    /// Events were lost or counted twice, or the cache does not match the database.
    NotExact,
    /// The drill proved nothing, for this reason.
    Inconclusive(String),
}

impl Outcome {
    pub(crate) fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

/// All rounds.
pub(crate) struct Report {
    /// Whether counts must be late during the fault. Otherwise the fault had no effect.
    must_disrupt: bool,
    rounds: Vec<Round>,
}

impl Report {
    pub(crate) fn new(fault: &Fault) -> Self {
        Self { must_disrupt: fault.is_partition(), rounds: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    pub(crate) fn outcome(&self) -> Outcome {
        if !self.rounds.iter().all(Round::is_exact) {
            return Outcome::NotExact;
        }
        if self.rounds.is_empty() {
            return Outcome::Inconclusive("no round was completed".into());
        }
        if let Some(round) = self.rounds.iter().find(|round| !round.is_loaded()) {
            let why = round.events.rejected.as_ref().map_or("no event was acknowledged", |(_, why)| why);
            return Outcome::Inconclusive(format!("events were not accepted: {why}"));
        }
        let undisrupted =
            self.rounds.iter().filter(|round| self.must_disrupt && !round.recovery.is_disrupted()).count();
        if undisrupted > 0 {
            return Outcome::Inconclusive(format!(
                "In {undisrupted} of {} rounds, counts stayed fresh, so no traffic was blocked. The network plugin does not enforce\n\
                 NetworkPolicies for egress.",
                self.rounds.len()
            ));
        }
        Outcome::Exact
    }

    fn sum(&self, of: impl Fn(&Round) -> i64) -> i64 {
        self.rounds.iter().map(of).sum()
    }

    pub(crate) fn text(&self) -> String {
        let seconds = |duration: Duration| format!("{:.1}s", duration.as_secs_f64());
        let header = ["#", "FAULT", "ACKNOWLEDGED", "LOST", "DOUBLE", "CACHE", "READY", "EXACT", "SLOWEST"];
        let rows = self.rounds.iter().enumerate().map(|(index, round)| {
            let cache = if round.cache_agrees { "agrees" } else { "DIFFERS" };
            [
                (index + 1).to_string(),
                round.fault.clone(),
                round.events.acknowledged.to_string(),
                round.lost().to_string(),
                round.double().to_string(),
                cache.into(),
                seconds(round.recovery.ready_after),
                seconds(round.recovery.exact_after),
                seconds(round.events.slowest),
            ]
        });
        let outcome = match self.outcome() {
            Outcome::Exact => "exact".to_owned(),
            Outcome::NotExact => "NOT EXACT".to_owned(),
            Outcome::Inconclusive(why) => format!("INCONCLUSIVE\n{why}"),
        };
        let sums = [signed_sum(&self.rounds), self.sum(Round::lost), self.sum(Round::double)];
        let [acknowledged, lost, double] = sums;
        format!(
            "{}\n{} rounds, {acknowledged} acknowledged, {lost} lost, {double} double: {outcome}",
            table(header, rows),
            self.rounds.len()
        )
    }

    pub(crate) fn json(&self) -> Value {
        let (outcome, why) = match self.outcome() {
            Outcome::Exact => ("exact", None),
            Outcome::NotExact => ("notExact", None),
            Outcome::Inconclusive(why) => ("inconclusive", Some(why.replace('\n', " "))),
        };
        json!({
            "verdict": outcome, "why": why, "acknowledged": signed_sum(&self.rounds), "lost": self.sum(Round::lost),
            "double": self.sum(Round::double), "rounds": self.rounds.iter().map(Round::json).collect::<Vec<_>>(),
        })
    }
}

fn signed_sum(rounds: &[Round]) -> i64 {
    rounds.iter().map(|round| signed(round.events.acknowledged)).sum()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::WIDTH;

    fn round(acknowledged: u64, unknown: u64, counted: i64) -> Round {
        let events = Events { acknowledged, unknown, ..Events::default() };
        let fault = "killed demo-processor-7d9c5b8f6-x2x2x".to_owned();
        Round {
            started: Timestamp::UNIX_EPOCH,
            fault,
            events,
            counted,
            cache_agrees: true,
            recovery: Recovery { counts: 10, ..Recovery::default() },
        }
    }

    fn outcome(must_disrupt: bool, rounds: Vec<Round>) -> Outcome {
        Report { must_disrupt, rounds }.outcome()
    }

    #[test]
    fn acknowledged_events_are_counted_once() {
        assert_eq!(outcome(false, vec![round(10, 0, 10), round(20, 0, 20)]), Outcome::Exact);
        for (acknowledged, counted, lost, double) in [(10, 9, 1, 0), (10, 12, 0, 2)] {
            let bad = round(acknowledged, 0, counted);
            assert_eq!((bad.lost(), bad.double()), (lost, double));
            assert_eq!(outcome(false, vec![round(10, 0, 10), bad]), Outcome::NotExact);
        }
        // A surplus in one round does not make up for a loss in another.
        assert_eq!(outcome(false, vec![round(10, 0, 9), round(10, 0, 11)]), Outcome::NotExact);
        let differs = Round { cache_agrees: false, ..round(10, 0, 10) };
        assert_eq!(outcome(false, vec![differs]), Outcome::NotExact);
    }

    #[test]
    fn events_with_an_unknown_outcome_may_be_counted() {
        for (counted, exact) in [(9, false), (10, true), (12, true), (13, false)] {
            assert_eq!(round(10, 2, counted).is_exact(), exact, "{counted}");
        }
    }

    #[test]
    fn a_drill_without_effect_is_inconclusive() {
        let inconclusive = |disrupted, rounds| matches!(outcome(disrupted, rounds), Outcome::Inconclusive(_));
        assert!(inconclusive(false, vec![]));
        assert!(inconclusive(false, vec![round(0, 0, 0)]));
        let rejected = Events { acknowledged: 5, rejected: Some((1, "forbidden".into())), ..Events::default() };
        assert!(inconclusive(false, vec![Round { events: rejected, ..round(5, 0, 5) }]));
        let disrupted = Round { recovery: Recovery { counts: 10, late: 8, ..Recovery::default() }, ..round(5, 0, 5) };
        assert_eq!(outcome(true, vec![disrupted.clone()]), Outcome::Exact);
        assert!(inconclusive(true, vec![disrupted, round(5, 0, 5)]));
        // A loss counts even if the fault had no visible effect.
        assert_eq!(outcome(true, vec![round(5, 0, 4)]), Outcome::NotExact);
    }

    #[test]
    fn a_report_has_a_hundred_columns_and_its_last_line_is_the_outcome() {
        let report = Report { must_disrupt: false, rounds: vec![round(1000, 0, 1000), round(1000, 0, 999)] };
        let text = report.text();
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        assert!(text.ends_with("2 rounds, 2000 acknowledged, 1 lost, 0 double: NOT EXACT"), "{text}");
        assert_eq!((&report.json()["verdict"], &report.json()["rounds"][1]["lost"]), (&json!("notExact"), &json!(1)));
    }
}
