//! Histories of a correct counter pass; each planted violation is found.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// Events and reads of one history.
const CALLS: usize = 200;

/// Runs a correct counter whose calls overlap: each takes effect at one moment between its begin and its end.
struct Counter {
    rng: StdRng,
    history: History,
    /// When each recorded event took effect.
    effects: Vec<(Uuid, Micros)>,
}

impl Counter {
    fn run(seed: u64) -> Self {
        let (rng, history) = (StdRng::seed_from_u64(seed), History::default());
        let mut counter = Self { rng, history, effects: Vec::new() };
        for _ in 0..CALLS {
            counter.send();
        }
        for _ in 0..CALLS {
            counter.read();
        }
        counter.read_statuses();
        counter
    }

    /// An interval, and a moment within it.
    fn interval(&mut self) -> (Interval, Micros) {
        let began = self.rng.random_range(0..1_000_000);
        let ended = began + self.rng.random_range(0..50_000);
        (Interval { began, ended }, self.rng.random_range(began..=ended))
    }

    fn send(&mut self) {
        let event = Uuid::from_u128(self.rng.random());
        let mut effect: Option<Micros> = None;
        for _ in 0..self.rng.random_range(1..4) {
            let (at, moment) = self.interval();
            let outcomes = [Outcome::Rejected, Outcome::Unknown, Outcome::Acknowledged, Outcome::Acknowledged];
            let outcome = outcomes[self.rng.random_range(0..4)];
            self.history.record(event, at, outcome);
            if outcome == Outcome::Acknowledged || outcome == Outcome::Unknown && self.rng.random() {
                effect = Some(effect.map_or(moment, |earlier| earlier.min(moment)));
            }
        }
        self.effects.extend(effect.map(|effect| (event, effect)));
    }

    fn total(&self, moment: Micros) -> i64 {
        self.effects.iter().filter(|(_, effect)| *effect < moment).count().try_into().unwrap()
    }

    fn read(&mut self) {
        let (at, moment) = self.interval();
        let answer =
            |includes, counted: Micros, count| Count { includes, count, as_of_ms: counted / 1_000, exact: true };
        let answer = match self.rng.random_range(0..4) {
            0 | 1 => answer(Includes::Strong, moment, self.total(moment)),
            2 => {
                let counted = self.rng.random_range(0..=moment);
                answer(Includes::AsOf, counted, self.total(counted))
            }
            _ => {
                let (event, effect) = self.effects[self.rng.random_range(0..self.effects.len())];
                if effect >= moment {
                    return;
                }
                answer(Includes::After(event), effect, self.total(effect + 1))
            }
        };
        self.history.count(at, answer);
    }

    /// One source becomes final; another one does, and is revoked.
    fn read_statuses(&mut self) {
        for (source, revoked) in [("final", None), ("revoked", Some(700_000))] {
            if let Some(revoked) = revoked {
                self.history.revocation(source, Interval { began: revoked, ended: revoked + 10 });
            }
            for _ in 0..50 {
                let (at, moment) = self.interval();
                let is_final = moment >= 500_000 && revoked.is_none_or(|revoked| moment < revoked);
                self.history.status(source, at, if is_final { Status::Final } else { Status::Open });
            }
        }
    }
}

/// Long after every other call.
const LATE: Interval = Interval { began: 5_000_000, ended: 5_000_100 };
const LATER: Interval = Interval { began: 6_000_000, ended: 6_000_100 };

fn strong(count: i64) -> Count {
    Count { includes: Includes::Strong, count, as_of_ms: 0, exact: true }
}

/// Acknowledged events, and those that may have been recorded.
fn bounds(history: &History) -> (i64, i64) {
    let count = |is: fn(&Event) -> bool| history.events.values().filter(|event| is(event)).count().try_into().unwrap();
    (count(|event| event.acknowledged.is_some()), count(|event| event.possible_from.is_some()))
}

/// Adds a wrong answer to many correct histories. It must be found in each, and nothing else.
fn plant(wrong: impl Fn(&mut History), is_found: impl Fn(&Violation) -> bool) {
    for seed in 0..50 {
        let mut history = Counter::run(seed).history;
        wrong(&mut history);
        let violations = history.check();
        assert!(matches!(&violations[..], [only] if is_found(only)), "seed {seed}: {violations:?}");
    }
}

#[test]
fn a_correct_history_has_no_violation() {
    for seed in 0..300 {
        let history = Counter::run(seed).history;
        assert_eq!(history.check(), [], "seed {seed}");
        let [events, _, counts, statuses] = history.sizes();
        assert!(events > 100 && counts > 100 && statuses == 100, "{:?}", history.sizes());
    }
}

#[test]
fn an_acknowledged_event_that_a_later_count_lacks_is_found() {
    let lost = |history: &mut History| {
        let count = bounds(history).0 - 1;
        history.count(LATE, Count { includes: Includes::AsOf, count, as_of_ms: 4_000, exact: true });
    };
    plant(lost, |found| matches!(found, Violation::Missing { .. }));
}

#[test]
fn an_event_that_counts_twice_is_found() {
    let twice = |history: &mut History| history.count(LATE, strong(bounds(history).1 + 1));
    plant(twice, |found| matches!(found, Violation::Excess { .. }));
}

#[test]
fn strong_counts_that_no_order_explains_are_found() {
    let back = |history: &mut History| {
        history.record(Uuid::nil(), LATE, Outcome::Unknown);
        let all = bounds(history).1;
        history.count(LATE, strong(all));
        history.count(LATER, strong(all - 1));
    };
    plant(back, |found| matches!(found, Violation::NotLinearizable { .. }));
}

#[test]
fn a_count_without_the_event_of_its_token_is_found() {
    let event = Uuid::nil();
    let lacking = |history: &mut History| {
        let certain = bounds(history).0;
        history.record(event, LATE, Outcome::Acknowledged);
        history.count(LATER, Count { includes: Includes::After(event), count: certain, as_of_ms: 4_000, exact: true });
    };
    plant(lacking, |found| matches!(found, Violation::Missing { .. }));
}

#[test]
fn a_final_status_that_changes_without_a_revocation_is_found() {
    let changed = |history: &mut History| {
        history.status("other", LATE, Status::Final);
        history.status("other", LATER, Status::Open);
    };
    plant(changed, |found| matches!(found, Violation::StatusChanged { source, .. } if **source == *"other"));
}

#[test]
fn events_from_before_the_history_are_in_every_count() {
    let mut history = History::after(10);
    history.count(LATE, strong(10));
    assert_eq!(history.check(), []);
    history.count(LATE, strong(9));
    history.count(LATE, strong(11));
    let violations = history.check();
    assert!(matches!(&violations[..], [Violation::Missing { .. }, Violation::Excess { .. }]), "{violations:?}");
}

#[test]
fn an_answer_that_does_not_claim_to_be_exact_is_not_checked() {
    let mut history = Counter::run(0).history;
    history.count(LATE, Count { exact: false, ..strong(1_000_000) });
    assert_eq!(history.check(), []);
}
