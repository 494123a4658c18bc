//! The comparison behind every audit: cache against store. Between two looks at the store every count can only grow, so a
//! cached count that was read in between must lie between the two, once the cache has counted what the first look saw.

use std::collections::{BTreeMap, BTreeSet};

use ping_core::Minute;

use super::{cache::CacheCounters, store::Snapshot};

/// Differences that are described in words.
const MAX_DESCRIBED: usize = 10;

/// How what was derived from the store differs from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Sum of the absolute differences, in events; at least 1.
    pub events: i64,
    /// The first ten differences, in words.
    pub differences: Vec<String>,
}

/// Collects differences.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    events: i64,
    described: Vec<String>,
}

impl Differences {
    /// Compares `counted` with the lowest and the highest right count.
    pub(crate) fn check(&mut self, low: i64, counted: i64, high: i64, what: impl FnOnce() -> String) {
        let off = if counted < low { low - counted } else { (counted - high).max(0) };
        if off > 0 {
            self.events = self.events.saturating_add(off);
            if self.described.len() < MAX_DESCRIBED {
                let right = if low == high { low.to_string() } else { format!("{low} to {high}") };
                self.described.push(format!("{}: {counted} events, but {right} are right", what()));
            }
        }
    }

    /// All of them; `None` when there are none.
    pub(crate) fn drift(self) -> Option<Drift> {
        (self.events > 0).then_some(Drift { events: self.events, differences: self.described })
    }
}

/// Whether the cache has counted everything that `before` includes: only then may the two be compared. Within one millisecond, events
/// may be committed before and after the cache's watermark was taken, so the watermark must be later than the whole look.
#[must_use]
pub fn has_counted(counters: &CacheCounters, before: &Snapshot) -> bool {
    counters.as_of > before.until
}

/// Compares `counters` with what the store held before and after they were read. Minutes before `window_start` are ignored: the
/// cache has dropped their earlier events. `None` when cache and store agree.
#[must_use]
pub fn compare(before: &Snapshot, counters: &CacheCounters, after: &Snapshot, window_start: Minute) -> Option<Drift> {
    let mut differences = Differences::default();
    differences.check(before.total, counters.total, after.total, || "total in the cache".into());
    let count = |minutes: &BTreeMap<Minute, i64>, minute| minutes.get(&minute).copied().unwrap_or(0);
    let minutes = after.minutes.keys().chain(counters.minutes.keys()).filter(|minute| **minute >= window_start);
    for minute in minutes.copied().collect::<BTreeSet<_>>() {
        let (low, high) = (count(&before.minutes, minute), count(&after.minutes, minute));
        differences.check(low, count(&counters.minutes, minute), high, || format!("minute {} in the cache", minute.0));
    }
    differences.drift()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ping_core::Marks;

    fn snapshot(total: i64, minutes: &[(i64, i64)]) -> Snapshot {
        let minutes = minutes.iter().map(|(minute, count)| (Minute(*minute), *count)).collect();
        Snapshot { at: 0, until: 2, total, minutes, writers: Vec::new() }
    }

    fn counters(total: i64, minutes: &[(i64, i64)]) -> CacheCounters {
        let minutes = minutes.iter().map(|(minute, count)| (Minute(*minute), *count)).collect();
        CacheCounters { generation: "g".into(), total, minutes, minutes_from: None, as_of: 0, marks: Marks::default() }
    }

    #[test]
    fn a_watermark_of_the_same_millisecond_may_miss_events() {
        let counters = |as_of| CacheCounters { as_of, ..counters(5, &[]) };
        let before = snapshot(5, &[]);
        assert_eq!([1, 2, 3].map(|as_of| has_counted(&counters(as_of), &before)), [false, false, true]);
    }

    #[test]
    fn a_count_between_two_looks_is_equal() {
        let drift = compare(&snapshot(5, &[(9, 5)]), &counters(6, &[(9, 6)]), &snapshot(8, &[(9, 8)]), Minute(0));
        assert_eq!(drift, None);
    }

    #[test]
    fn a_lost_or_doubled_event_is_drift() {
        let store = snapshot(5, &[(9, 5)]);
        for (cached, off) in [(4, 2), (7, 4)] {
            let drift = compare(&store, &counters(cached, &[(9, cached)]), &store, Minute(0));
            assert_eq!(drift.as_ref().map(|drift| drift.events), Some(off), "{drift:?}");
        }
    }

    #[test]
    fn minutes_outside_the_window_are_ignored() {
        let store = snapshot(5, &[(9, 5)]);
        assert_eq!(compare(&store, &counters(5, &[(3, 1), (9, 5)]), &store, Minute(4)), None);
        assert!(compare(&store, &counters(5, &[(9, 5), (10, 1)]), &store, Minute(4)).is_some());
    }
}
