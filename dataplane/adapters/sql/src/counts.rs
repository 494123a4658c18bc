//! What a batch adds to the counts in both databases.

use std::collections::BTreeMap;

use ping_core::{Event, Millis, Minute};

/// Width of a daily rollup, in minutes.
const DAY_MINUTES: i32 = 1440;

/// Events that have something in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCount {
    /// All of them.
    pub count: i64,
    /// Those with a source.
    pub attributed: i64,
}

impl EventCount {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.attributed += other.attributed;
    }
}

/// The counts of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// Events per millisecond.
    pub per_millisecond: BTreeMap<Millis, EventCount>,
    /// Events per width in minutes (1 or 1440) and bucket.
    pub rollups: BTreeMap<(i32, i64), EventCount>,
}

impl BatchCounts {
    /// Counts `events`.
    #[must_use]
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut counts = Self::default();
        for event in events {
            let attributed = i64::from(!event.source.is_empty());
            counts.per_millisecond.entry(event.timestamp_ms).or_default().add(EventCount { count: 1, attributed });
        }
        for (timestamp_ms, count) in &counts.per_millisecond {
            let minute = Minute::of(*timestamp_ms).0;
            counts.rollups.entry((1, minute)).or_default().add(*count);
            counts.rollups.entry((DAY_MINUTES, minute.div_euclid(DAY_MINUTES.into()))).or_default().add(*count);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_batch_is_counted_by_millisecond_minute_and_day() {
        let event = |at, source: &str| Event {
            id: Uuid::nil(),
            timestamp_ms: at,
            timestamp_assumed: false,
            source: source.into(),
            kind: "".into(),
        };
        let events = [event(59_999, ""), event(60_000, "a"), event(60_000, ""), event(86_400_000, "b")];
        let counts = BatchCounts::of(&events);
        let count = |count, attributed| EventCount { count, attributed };
        let per_millisecond = [(59_999, count(1, 0)), (60_000, count(2, 1)), (86_400_000, count(1, 1))];
        assert_eq!(counts.per_millisecond, BTreeMap::from(per_millisecond));
        let minutes = [((1, 0), count(1, 0)), ((1, 1), count(2, 1)), ((1, 1440), count(1, 1))];
        let days = [((1440, 0), count(3, 1)), ((1440, 1), count(1, 1))];
        assert_eq!(counts.rollups, minutes.into_iter().chain(days).collect());
    }
}
