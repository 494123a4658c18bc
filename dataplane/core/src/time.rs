//! Time: milliseconds since the Unix epoch, minutes, windows, days, and half-open ranges with their split into rollups.

use std::time::Duration;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// A duration in milliseconds. Saturates: 292 million years are as good as any longer time.
#[must_use]
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Milliseconds in a minute.
const MINUTE: Millis = 60_000;
/// Milliseconds in a window.
const WINDOW: Millis = 5 * MINUTE;
/// Milliseconds in a day.
const DAY: Millis = 24 * 60 * MINUTE;

/// A minute, counted since the Unix epoch: `timestamp_ms / 60_000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(pub i64);

impl Minute {
    /// The minute of `timestamp_ms`.
    #[must_use]
    pub fn of(timestamp_ms: Millis) -> Self {
        Self(timestamp_ms.div_euclid(MINUTE))
    }

    /// The minute `minutes` earlier.
    #[must_use]
    pub fn back(self, minutes: i64) -> Self {
        Self(self.0.saturating_sub(minutes))
    }

    /// When it begins.
    #[must_use]
    pub fn start(self) -> Millis {
        self.0.saturating_mul(MINUTE)
    }

    /// The day it is in.
    #[must_use]
    pub fn day(self) -> Day {
        Day(self.0.div_euclid(DAY / MINUTE))
    }
}

/// A window of five minutes, counted since the Unix epoch: `timestamp_ms / 300_000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window(pub i64);

impl Window {
    /// Windows in a day.
    pub const PER_DAY: i64 = DAY / WINDOW;

    /// The window of `timestamp_ms`.
    #[must_use]
    pub fn of(timestamp_ms: Millis) -> Self {
        Self(timestamp_ms.div_euclid(WINDOW))
    }

    /// When it begins.
    #[must_use]
    pub fn start(self) -> Millis {
        self.0.saturating_mul(WINDOW)
    }

    /// The day it is in.
    #[must_use]
    pub fn day(self) -> Day {
        Day(self.0.div_euclid(Self::PER_DAY))
    }
}

/// A day in UTC, counted since the Unix epoch: `timestamp_ms / 86_400_000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

impl Day {
    /// The day of `timestamp_ms`.
    #[must_use]
    pub fn of(timestamp_ms: Millis) -> Self {
        Self(timestamp_ms.div_euclid(DAY))
    }

    /// When it begins.
    #[must_use]
    pub fn start(self) -> Millis {
        self.0.saturating_mul(DAY)
    }

    /// Its first minute.
    #[must_use]
    pub fn first_minute(self) -> Minute {
        Minute(self.0.saturating_mul(DAY / MINUTE))
    }

    /// Its first window.
    #[must_use]
    pub fn first_window(self) -> Window {
        Window(self.0.saturating_mul(Window::PER_DAY))
    }

    /// The day `days` earlier.
    #[must_use]
    pub fn back(self, days: i64) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

/// A half-open range of event time: `start <= t < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    start: Millis,
    end: Millis,
}

/// Why a range is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RangeError {
    /// A bound is before 1970.
    #[error("time_range.{0} is negative; it is in milliseconds since the Unix epoch")]
    Negative(&'static str),
    /// The range ends before it starts.
    #[error("time_range ends ({end}) before it starts ({start}); swap the bounds, or leave end at 0 for an open range")]
    Backwards {
        /// The requested start.
        start: Millis,
        /// The requested end.
        end: Millis,
    },
}

/// A range split for counting: whole days and whole minutes are read from rollups, the rest from rows. Every piece is
/// half-open; days and minutes are in their own unit since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSplit {
    /// Milliseconds to count row by row: at most two pieces, each shorter than a minute.
    pub rows: Vec<(Millis, Millis)>,
    /// Whole minutes: at most two pieces, each shorter than a day.
    pub minutes: Vec<(i64, i64)>,
    /// Whole days: at most one piece.
    pub days: Vec<(i64, i64)>,
}

/// A range of whole windows, split at the ends of days. Every piece is half-open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowSplit {
    /// Whole windows: at most two pieces, each shorter than a day unless the range has no whole day.
    pub windows: Vec<(Window, Window)>,
    /// Whole days: at most one piece.
    pub days: Vec<(Day, Day)>,
}

impl TimeRange {
    /// When it starts.
    #[must_use]
    pub fn start(self) -> Millis {
        self.start
    }

    /// When it ends, exclusive; `Millis::MAX` means that it does not end.
    #[must_use]
    pub fn end(self) -> Millis {
        self.end
    }

    /// The windows and days of this range; `None` when it does not start and end with a window.
    #[must_use]
    pub fn whole_windows(self) -> Option<WindowSplit> {
        if self.start % WINDOW != 0 || (self.end % WINDOW != 0 && self.end != Millis::MAX) {
            return None;
        }
        let (days, edges) = cut(self.start, self.end, DAY);
        Some(WindowSplit {
            windows: edges.into_iter().map(|(a, b)| (Window::of(a), Window::of(b))).collect(),
            days: days.into_iter().map(|(a, b)| (Day::of(a), Day::of(b))).collect(),
        })
    }

    /// A range as callers send it: an `end` of 0 means that it does not end.
    ///
    /// # Errors
    /// When a bound is negative or the end is before the start.
    pub fn new(start: Millis, end: Millis) -> Result<Self, RangeError> {
        if start < 0 {
            return Err(RangeError::Negative("start"));
        }
        if end < 0 {
            return Err(RangeError::Negative("end"));
        }
        let end = if end == 0 { Millis::MAX } else { end };
        if end < start {
            return Err(RangeError::Backwards { start, end });
        }
        Ok(Self { start, end })
    }

    /// The minutes of this range; `None` when it does not start and end with a minute.
    #[must_use]
    pub fn whole_minutes(self) -> Option<(Minute, Minute)> {
        let aligned = self.start % MINUTE == 0 && (self.end % MINUTE == 0 || self.end == Millis::MAX);
        aligned.then(|| (Minute::of(self.start), Minute::of(self.end)))
    }

    /// Splits the range into whole days, whole minutes and the milliseconds left at its ends, without gaps or overlaps.
    #[must_use]
    pub fn split(self) -> RangeSplit {
        let mut split = RangeSplit::default();
        let (inner, edges) = cut(self.start, self.end, MINUTE);
        split.rows = edges;
        if let Some((first, last)) = inner {
            let (days, edges) = cut(first, last, DAY);
            split.minutes = edges.into_iter().map(|(a, b)| (a / MINUTE, b / MINUTE)).collect();
            split.days = days.into_iter().map(|(a, b)| (a / DAY, b / DAY)).collect();
        }
        split
    }
}

/// The pieces of a range, each half-open.
type Pieces = Vec<(Millis, Millis)>;

/// Splits `[start, end)` at multiples of `unit`: the aligned middle, if any, and what is left at the ends.
fn cut(start: Millis, end: Millis, unit: Millis) -> (Option<(Millis, Millis)>, Pieces) {
    let first = start.div_euclid(unit).saturating_add(Millis::from(start % unit != 0)).saturating_mul(unit);
    let last = if end == Millis::MAX { end } else { end - end % unit };
    if first >= last {
        let edge = (start < end).then_some((start, end));
        return (None, edge.into_iter().collect());
    }
    let edges = [(start, first), (last, end)].into_iter().filter(|(a, b)| a < b).collect();
    (Some((first, last)), edges)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covered(split: &RangeSplit) -> Pieces {
        let scale = |pieces: &[(i64, i64)], unit: i64| {
            pieces.iter().map(|(a, b)| (a * unit, b.saturating_mul(unit))).collect::<Vec<_>>()
        };
        let mut all = [split.rows.clone(), scale(&split.minutes, MINUTE), scale(&split.days, DAY)].concat();
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn a_split_covers_its_range_once(start in 0i64..10 * DAY, length in 0i64..10 * DAY) {
            let split = TimeRange::new(start, start + length + i64::from(start + length == 0)).unwrap().split();
            let pieces = covered(&split);
            let mut at = start;
            for (from, to) in &pieces {
                prop_assert_eq!(*from, at);
                prop_assert!(to > from);
                at = *to;
            }
            prop_assert_eq!(at, start + length + i64::from(start + length == 0));
            prop_assert!(split.rows.iter().all(|(a, b)| b - a < 2 * MINUTE));
            prop_assert!(split.minutes.iter().all(|(a, b)| b - a < 2 * 1440));
        }
    }

    #[test]
    fn a_year_is_mostly_days() {
        let split = TimeRange::new(DAY + 1, 366 * DAY + 1).unwrap().split();
        assert_eq!(split.days, [(2, 366)]);
        assert_eq!(split.minutes, [(1441, 2880)]);
        assert_eq!(split.rows, [(DAY + 1, DAY + MINUTE), (366 * DAY, 366 * DAY + 1)]);
    }

    #[test]
    fn an_end_of_zero_is_no_end() {
        let range = TimeRange::new(120_000, 0).unwrap();
        assert_eq!(range.whole_minutes(), Some((Minute(2), Minute::of(Millis::MAX))));
        assert!(range.split().rows.is_empty());
        assert_eq!(TimeRange::new(5, 3), Err(RangeError::Backwards { start: 5, end: 3 }));
        assert_eq!(TimeRange::new(-1, 3), Err(RangeError::Negative("start")));
    }
}
