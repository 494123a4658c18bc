//! A summary of some events: how many, the first and the last. Summaries merge in any order.

use super::time::Millis;

/// How many events there are, and when the first and the last of them happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// How many events; at least one.
    pub count: i64,
    /// Time of the earliest.
    pub first: Millis,
    /// Time of the latest.
    pub last: Millis,
}

impl Span {
    /// One event that happened at `timestamp_ms`.
    #[must_use]
    pub fn of(timestamp_ms: Millis) -> Self {
        Self { count: 1, first: timestamp_ms, last: timestamp_ms }
    }

    /// The summary of both sets of events.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { count: self.count + other.count, first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// Mean time between two consecutive events, in milliseconds; `None` when there is only one. Count, first and last suffice,
    /// because the intervals in between add up to the difference of last and first.
    #[must_use]
    pub fn average_interval(self) -> Option<f64> {
        (self.count > 1).then(|| (self.last - self.first) as f64 / (self.count - 1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn spans_merge_in_any_order(times in proptest::collection::vec(0i64..1_000_000, 1..20), cut in 0usize..20) {
            let span = |times: &[i64]| times.iter().map(|at| Span::of(*at)).reduce(Span::merge);
            let (left, right) = times.split_at(cut.min(times.len()));
            let merged = [span(right), span(left)].into_iter().flatten().reduce(Span::merge).unwrap();
            let mut sorted = times.clone();
            sorted.sort_unstable();
            prop_assert_eq!(merged, span(&sorted).unwrap());
            let intervals: Vec<_> = sorted.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = (!intervals.is_empty()).then(|| intervals.iter().sum::<i64>() as f64 / intervals.len() as f64);
            prop_assert_eq!(merged.average_interval(), mean);
        }
    }
}
