//! The audit: cache against store, every few seconds. Between two looks at the store everything only grows, so a counter read
//! in between must lie between them, once the cache has counted what the first look saw.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;

use super::{CountError, CountPorts, CountSettings};
use crate::{
    domain::{Generation, Minute},
    ports::{Counters, Snapshot},
};

/// How often, and how long apart, the audit waits for the cache to reach its first look.
const WAITS: u32 = 20;
const WAIT: Duration = Duration::from_millis(100);

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Cache and store agree.
    Equal,
    /// The cache is away, empty, or too far behind to be judged.
    Unknown,
    /// They differ: by how many events, and where.
    Drift {
        /// The filling that was looked at.
        generation: Generation,
        /// Sum of the absolute differences.
        events: i64,
        /// The first differences, in words.
        differences: Vec<String>,
    },
}

/// Compares `counters` with what the store held before and after they were read.
#[must_use]
pub fn compare(before: &Snapshot, counters: &Counters, after: &Snapshot, window_start: Minute) -> Verdict {
    let mut events = 0;
    let mut differences = Vec::new();
    let mut check = |what: String, low: i64, have: i64, high: i64| {
        let off = if have < low { low - have } else { (have - high).max(0) };
        if off > 0 {
            events += off;
            differences.push(format!("{what}: the cache has {have}, the store {low} to {high}"));
        }
    };
    check("total".into(), before.total, counters.total, after.total);
    let of = |minutes: &BTreeMap<Minute, i64>, minute| minutes.get(&minute).copied().unwrap_or(0);
    // Only minutes inside the window are complete in the cache; an older one counts from when it reappeared.
    let minutes = after.minutes.keys().chain(counters.minutes.keys()).filter(|minute| **minute >= window_start);
    for minute in minutes.copied().collect::<std::collections::BTreeSet<_>>() {
        let low = of(&before.minutes, minute);
        check(format!("minute {}", minute.0), low, of(&counters.minutes, minute), of(&after.minutes, minute));
    }
    if events == 0 {
        return Verdict::Equal;
    }
    differences.truncate(10);
    Verdict::Drift { generation: counters.generation.clone(), events, differences }
}

/// One audit.
pub(super) async fn audit(ports: &CountPorts, settings: &CountSettings) -> Result<Verdict, CountError> {
    let now = Minute::of(ports.clock.now());
    let start = now.back(settings.window);
    let before = ports.ledger.snapshot(start, Duration::ZERO).await?;
    for _ in 0..WAITS {
        let Some(counters) = ports.cache.counters().await? else { return Ok(Verdict::Unknown) };
        if counters.as_of >= before.at {
            let after = ports.ledger.snapshot(start, Duration::ZERO).await?;
            // A minute older than the window may leave the cache between the looks.
            return Ok(compare(&before, &counters, &after, now.back(settings.window - 2)));
        }
        sleep(WAIT).await;
    }
    Ok(Verdict::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Marks;

    fn snapshot(total: i64, minutes: &[(i64, i64)]) -> Snapshot {
        let minutes = minutes.iter().map(|(minute, count)| (Minute(*minute), *count)).collect();
        Snapshot { at: 0, total, minutes, writers: Vec::new() }
    }

    fn counters(total: i64, minutes: &[(i64, i64)]) -> Counters {
        let minutes = minutes.iter().map(|(minute, count)| (Minute(*minute), *count)).collect();
        Counters { generation: "g".into(), total, minutes, as_of: 0, marks: Marks::default() }
    }

    #[test]
    fn a_count_between_two_looks_is_equal() {
        let verdict = compare(&snapshot(5, &[(9, 5)]), &counters(6, &[(9, 6)]), &snapshot(8, &[(9, 8)]), Minute(0));
        assert_eq!(verdict, Verdict::Equal);
    }

    #[test]
    fn a_lost_or_doubled_event_is_drift() {
        let store = snapshot(5, &[(9, 5)]);
        for (have, off) in [(4, 2), (7, 4)] {
            let verdict = compare(&store, &counters(have, &[(9, have)]), &store, Minute(0));
            assert!(matches!(verdict, Verdict::Drift { events, .. } if events == off), "{verdict:?}");
        }
    }

    #[test]
    fn minutes_outside_the_window_are_not_judged() {
        let store = snapshot(5, &[(9, 5)]);
        assert_eq!(compare(&store, &counters(5, &[(3, 1), (9, 5)]), &store, Minute(4)), Verdict::Equal);
        assert!(matches!(compare(&store, &counters(5, &[(9, 5), (10, 1)]), &store, Minute(4)), Verdict::Drift { .. }));
    }
}
