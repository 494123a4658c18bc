//! What a drill has shown. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{fault::Fault, load::Pings, watch::Seen};
use crate::output::table;

/// One fault, and what became of the pings meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// When it began.
    pub(crate) at: Timestamp,
    /// What was done to whom.
    pub(crate) happened: String,
    pub(crate) pings: Pings,
    /// How many of them the database holds.
    pub(crate) counted: i64,
    /// Whether the recounted database and the cache agree.
    pub(crate) same: bool,
    pub(crate) seen: Seen,
}

impl Round {
    /// Acknowledged and not in the count.
    fn lost(&self) -> i64 {
        (signed(self.pings.acknowledged) - self.counted).max(0)
    }

    /// In the count although neither acknowledged nor of unknown fate.
    fn double(&self) -> i64 {
        (self.counted - signed(self.pings.acknowledged) - signed(self.pings.unknown)).max(0)
    }

    fn is_exact(&self) -> bool {
        self.lost() == 0 && self.double() == 0 && self.same
    }

    /// Whether anything was acknowledged that could have been lost, and nothing refused.
    fn is_loaded(&self) -> bool {
        self.pings.acknowledged > 0 && self.pings.refused.is_none()
    }

    /// In words, for who waits for the rest.
    pub(crate) fn line(&self) -> String {
        let (ready, exact) = (self.seen.ready_after, self.seen.exact_after);
        format!(
            "{}: {} acknowledged, {} lost, {} double; Ready after {:.0} s, Exact after {:.0} s",
            self.happened,
            self.pings.acknowledged,
            self.lost(),
            self.double(),
            ready.as_secs_f64(),
            exact.as_secs_f64()
        )
    }

    fn json(&self) -> Value {
        json!({
            "at": self.at.to_string(), "what": self.happened, "acknowledged": self.pings.acknowledged,
            "unknown": self.pings.unknown, "refused": self.pings.refused.as_ref().map_or(0, |(number, _)| *number),
            "counted": self.counted, "lost": self.lost(), "double": self.double(), "cacheAgrees": self.same,
            "readyAfterMs": ms(self.seen.ready_after), "exactAfterMs": ms(self.seen.exact_after),
            "slowestMs": ms(self.pings.slowest), "counts": self.seen.counts, "lateCounts": self.seen.late,
        })
    }
}

/// What all rounds together show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing lost, nothing double, in any round.
    Exact,
    /// Something was lost, or counted twice, or database and cache disagree.
    NotExact,
    /// Too little happened to say anything; why.
    Inconclusive(String),
}

impl Verdict {
    pub(crate) fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

/// All rounds.
pub(crate) struct Report {
    /// Counts have to have been late meanwhile, or the fault was none.
    has_to_be_felt: bool,
    rounds: Vec<Round>,
}

impl Report {
    pub(crate) fn new(fault: &Fault) -> Self {
        Self { has_to_be_felt: fault.is_cut(), rounds: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    pub(crate) fn verdict(&self) -> Verdict {
        if !self.rounds.iter().all(Round::is_exact) {
            return Verdict::NotExact;
        }
        if self.rounds.is_empty() {
            return Verdict::Inconclusive("no round was finished".into());
        }
        if let Some(round) = self.rounds.iter().find(|round| !round.is_loaded()) {
            let why = round.pings.refused.as_ref().map_or("no ping was acknowledged", |(_, why)| why);
            return Verdict::Inconclusive(format!("pings were not taken: {why}"));
        }
        let not_felt = self.rounds.iter().filter(|round| self.has_to_be_felt && !round.seen.is_felt()).count();
        if not_felt > 0 {
            return Verdict::Inconclusive(format!(
                "In {not_felt} of {} rounds counts stayed fresh, so nothing was cut off: the network plugin enforces no\n\
                 NetworkPolicies on the way out, or none on open connections.",
                self.rounds.len()
            ));
        }
        Verdict::Exact
    }

    fn sum(&self, of: impl Fn(&Round) -> i64) -> i64 {
        self.rounds.iter().map(of).sum()
    }

    pub(crate) fn text(&self) -> String {
        let seconds = |duration: Duration| format!("{:.1}s", duration.as_secs_f64());
        let header = ["#", "WHAT", "ACKNOWLEDGED", "LOST", "DOUBLE", "CACHE", "READY", "EXACT", "SLOWEST"];
        let rows = self.rounds.iter().enumerate().map(|(index, round)| {
            let cache = if round.same { "agrees" } else { "DIFFERS" };
            [
                (index + 1).to_string(),
                round.happened.clone(),
                round.pings.acknowledged.to_string(),
                round.lost().to_string(),
                round.double().to_string(),
                cache.into(),
                seconds(round.seen.ready_after),
                seconds(round.seen.exact_after),
                seconds(round.pings.slowest),
            ]
        });
        let verdict = match self.verdict() {
            Verdict::Exact => "exact".to_owned(),
            Verdict::NotExact => "NOT EXACT".to_owned(),
            Verdict::Inconclusive(why) => format!("INCONCLUSIVE\n{why}"),
        };
        let sums = [signed_sum(&self.rounds), self.sum(Round::lost), self.sum(Round::double)];
        let [acknowledged, lost, double] = sums;
        format!(
            "{}\n{} rounds, {acknowledged} acknowledged, {lost} lost, {double} double: {verdict}",
            table(header, rows),
            self.rounds.len()
        )
    }

    pub(crate) fn json(&self) -> Value {
        let (verdict, why) = match self.verdict() {
            Verdict::Exact => ("exact", None),
            Verdict::NotExact => ("notExact", None),
            Verdict::Inconclusive(why) => ("inconclusive", Some(why.replace('\n', " "))),
        };
        json!({
            "verdict": verdict, "why": why, "acknowledged": signed_sum(&self.rounds), "lost": self.sum(Round::lost),
            "double": self.sum(Round::double), "rounds": self.rounds.iter().map(Round::json).collect::<Vec<_>>(),
        })
    }
}

fn signed_sum(rounds: &[Round]) -> i64 {
    rounds.iter().map(|round| signed(round.pings.acknowledged)).sum()
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
        let pings = Pings { acknowledged, unknown, ..Pings::default() };
        let happened = "killed demo-processor-7d9c5b8f6-x2x2x".to_owned();
        Round {
            at: Timestamp::UNIX_EPOCH,
            happened,
            pings,
            counted,
            same: true,
            seen: Seen { counts: 10, ..Seen::default() },
        }
    }

    fn verdict(has_to_be_felt: bool, rounds: Vec<Round>) -> Verdict {
        Report { has_to_be_felt, rounds }.verdict()
    }

    #[test]
    fn what_is_acknowledged_is_counted_once() {
        assert_eq!(verdict(false, vec![round(10, 0, 10), round(20, 0, 20)]), Verdict::Exact);
        for (acknowledged, counted, lost, double) in [(10, 9, 1, 0), (10, 12, 0, 2)] {
            let bad = round(acknowledged, 0, counted);
            assert_eq!((bad.lost(), bad.double()), (lost, double));
            assert_eq!(verdict(false, vec![round(10, 0, 10), bad]), Verdict::NotExact);
        }
        // What one round lost, another one does not make up for.
        assert_eq!(verdict(false, vec![round(10, 0, 9), round(10, 0, 11)]), Verdict::NotExact);
        let differs = Round { same: false, ..round(10, 0, 10) };
        assert_eq!(verdict(false, vec![differs]), Verdict::NotExact);
    }

    #[test]
    fn what_is_of_unknown_fate_may_be_counted() {
        for (counted, exact) in [(9, false), (10, true), (12, true), (13, false)] {
            assert_eq!(round(10, 2, counted).is_exact(), exact, "{counted}");
        }
    }

    #[test]
    fn nothing_is_claimed_of_what_did_not_happen() {
        let inconclusive = |felt, rounds| matches!(verdict(felt, rounds), Verdict::Inconclusive(_));
        assert!(inconclusive(false, vec![]));
        assert!(inconclusive(false, vec![round(0, 0, 0)]));
        let refused = Pings { acknowledged: 5, refused: Some((1, "forbidden".into())), ..Pings::default() };
        assert!(inconclusive(false, vec![Round { pings: refused, ..round(5, 0, 5) }]));
        let felt = Round { seen: Seen { counts: 10, late: 8, ..Seen::default() }, ..round(5, 0, 5) };
        assert_eq!(verdict(true, vec![felt.clone()]), Verdict::Exact);
        assert!(inconclusive(true, vec![felt, round(5, 0, 5)]));
        // A loss is one, felt or not.
        assert_eq!(verdict(true, vec![round(5, 0, 4)]), Verdict::NotExact);
    }

    #[test]
    fn a_report_has_a_hundred_columns_and_a_last_line_that_says_it_all() {
        let report = Report { has_to_be_felt: false, rounds: vec![round(1000, 0, 1000), round(1000, 0, 999)] };
        let text = report.text();
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        assert!(text.ends_with("2 rounds, 2000 acknowledged, 1 lost, 0 double: NOT EXACT"), "{text}");
        assert_eq!((&report.json()["verdict"], &report.json()["rounds"][1]["lost"]), (&json!("notExact"), &json!(1)));
    }
}
