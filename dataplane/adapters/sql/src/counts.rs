//! What a batch adds to the counts in both databases.

use std::collections::BTreeMap;

use ping_core::{Event, Millis, Minute};

/// Width of a daily rollup, in minutes.
const DAY_MINUTES: i32 = 1440;

/// The counts of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// Events per millisecond.
    pub per_millisecond: BTreeMap<Millis, i64>,
    /// Events per width in minutes (1 or 1440) and bucket.
    pub rollups: BTreeMap<(i32, i64), i64>,
}

impl BatchCounts {
    /// Counts `events`.
    #[must_use]
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut counts = Self::default();
        for event in events {
            *counts.per_millisecond.entry(event.timestamp_ms).or_insert(0) += 1;
        }
        for (timestamp_ms, count) in &counts.per_millisecond {
            let minute = Minute::of(*timestamp_ms).0;
            *counts.rollups.entry((1, minute)).or_insert(0) += count;
            *counts.rollups.entry((DAY_MINUTES, minute.div_euclid(DAY_MINUTES.into()))).or_insert(0) += count;
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
        let event = |at| Event {
            id: Uuid::nil(),
            timestamp_ms: at,
            timestamp_assumed: false,
            source: "".into(),
            kind: "".into(),
        };
        let counts = BatchCounts::of(&[event(59_999), event(60_000), event(60_000), event(86_400_000)]);
        assert_eq!(counts.per_millisecond, BTreeMap::from([(59_999, 1), (60_000, 2), (86_400_000, 1)]));
        let rollups = [((1, 0), 1), ((1, 1), 2), ((1, 1440), 1), ((1440, 0), 3), ((1440, 1), 1)];
        assert_eq!(counts.rollups, BTreeMap::from(rollups));
    }
}
