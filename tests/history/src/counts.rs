//! Bounds of a count, from the events that must be in it and those that can be.

use crate::{Count, Event, History, Includes, Interval, Micros, Violation};

/// The times of all events, sorted, so that events before a time are found by bisection.
struct Times {
    acknowledged: Vec<Micros>,
    possible_from: Vec<Micros>,
}

/// How many of the sorted `times` are before `time`.
fn before(times: &[Micros], time: Micros) -> i64 {
    i64::try_from(times.partition_point(|other| *other < time)).unwrap_or(i64::MAX)
}

impl Times {
    fn of(history: &History) -> Self {
        let sorted = |time: fn(&Event) -> Option<Micros>| {
            let mut times: Vec<_> = history.events.values().filter_map(time).collect();
            times.sort_unstable();
            times
        };
        Self { acknowledged: sorted(|event| event.acknowledged), possible_from: sorted(|event| event.possible_from) }
    }
}

/// Checks every count that says it is exact.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let times = Times::of(history);
    let exact = history.counts.iter().filter(|(_, answer)| answer.exact);
    let bounded = exact.filter_map(|(at, answer)| check_bounds(history, &times, *at, *answer));
    bounded.chain(check_order(history, &times)).collect()
}

/// An event in flight while a count is read may or may not be in it.
fn check_bounds(history: &History, times: &Times, at: Interval, answer: Count) -> Option<Violation> {
    let as_of = answer.as_of_ms.saturating_mul(1_000);
    let covered = if answer.includes == Includes::Strong { as_of.max(at.began) } else { as_of };
    let mut promised = history.before + before(&times.acknowledged, covered);
    if let Includes::After(event) = answer.includes {
        let acknowledged = history.events.get(&event).and_then(|event| event.acknowledged);
        promised += i64::from(acknowledged.is_none_or(|acknowledged| acknowledged >= covered));
    }
    // Within the same microsecond, the event may have been sent before.
    let possible = history.before + before(&times.possible_from, at.ended.saturating_add(1));
    if answer.count < promised {
        Some(Violation::Missing { at, answer, promised })
    } else if answer.count > possible {
        Some(Violation::Excess { at, answer, possible })
    } else {
        None
    }
}

/// Compares each strong count with the highest one that had ended before it began: what the earlier one counted stays counted, and only
/// events that it need not have counted can have been added.
fn check_order(history: &History, times: &Times) -> Vec<Violation> {
    let strong = |(_, answer): &&(Interval, Count)| answer.exact && answer.includes == Includes::Strong;
    let mut by_begin: Vec<_> = history.counts.iter().filter(strong).copied().collect();
    let mut by_end = by_begin.clone();
    by_begin.sort_by_key(|(at, _)| at.began);
    by_end.sort_by_key(|(at, _)| at.ended);
    let (mut ended, mut highest): (_, Option<(Interval, Count)>) = (by_end.into_iter().peekable(), None);
    let mut violations = Vec::new();
    for (at, answer) in by_begin {
        while let Some(earlier) = ended.next_if(|(earlier, _)| earlier.ended < at.began) {
            if highest.is_none_or(|(_, highest)| earlier.1.count >= highest.count) {
                highest = Some(earlier);
            }
        }
        let Some((earlier_at, Count { count: earlier, .. })) = highest else { continue };
        let certain = before(&times.acknowledged, earlier_at.began);
        let added = before(&times.possible_from, at.ended.saturating_add(1)) - certain;
        let (least, most) = (earlier, earlier.saturating_add(added));
        if !(least..=most).contains(&answer.count) {
            violations.push(Violation::NotLinearizable { at, answer, earlier, least, most });
        }
    }
    violations
}
