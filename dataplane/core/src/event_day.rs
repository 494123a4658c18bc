//! The day of an event's id. Retention of events goes by it, because it depends on nothing but the id: events with the same id are of the
//! same day, so an id that is unique within its day is unique.

use uuid::Uuid;

use super::{
    event::EventError,
    time::{Day, Millis},
};

/// 2020-01-01: version 7 UUIDs did not exist earlier. An earlier time comes from a clock that was not set, or from random bits.
const FIRST_DAY: Day = Day(18_262);
/// 2100-01-01. A later time comes from random bits.
const END_DAY: Day = Day(47_482);

/// The day of a version 7 UUID. `None` for other UUIDs, and for days that are not in the years 2020 to 2099: such ids have no time, and are
/// remembered without limit.
#[must_use]
pub fn id_day(id: Uuid) -> Option<Day> {
    let bytes = id.as_bytes();
    let is_version_7 = bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10;
    let millis = bytes[..6].iter().fold(0, |time: Millis, byte| time << 8 | Millis::from(*byte));
    let day = Day::of(millis);
    (is_version_7 && (FIRST_DAY..END_DAY).contains(&day)).then_some(day)
}

/// The ids from the first to before the second one include every id of the days before `day`, and others.
#[must_use]
pub fn ids_before(day: Day) -> (Uuid, Uuid) {
    (lowest_id(FIRST_DAY), lowest_id(day))
}

/// The ids from the first to before the second one include every id of `day` and later days, and others.
#[must_use]
pub fn ids_since(day: Day) -> (Uuid, Uuid) {
    (lowest_id(day), lowest_id(END_DAY))
}

/// No id of `day` or a later one is lower.
fn lowest_id(day: Day) -> Uuid {
    let day = day.clamp(FIRST_DAY, END_DAY);
    Uuid::from_u128(u128::from(day.start().unsigned_abs()) << 80)
}

/// The first day whose events are kept: `days` days before today.
#[must_use]
pub fn kept_from(now: Millis, days: i64) -> Day {
    Day::of(now).back(days)
}

/// The days whose ids are accepted. Ids without a day always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdDays {
    first: Day,
    last: Day,
}

impl IdDays {
    /// The days at the time `now`: those whose events are kept by a server that keeps them for `days` days (`None`: all events), and by a
    /// store that refuses days before `first`. An id may be one day ahead, as the time of an event may. `None`: all days.
    #[must_use]
    pub fn at(now: Millis, days: Option<i64>, first: Option<Day>) -> Option<Self> {
        let first = first.into_iter().chain(days.map(|days| kept_from(now, days))).max()?;
        Some(Self { first, last: Day(Day::of(now).0.saturating_add(1)) })
    }

    /// Whether `id` is accepted.
    ///
    /// # Errors
    /// When it is of a day that is no longer kept, or more than one day ahead.
    pub fn check(self, id: Uuid) -> Result<(), EventError> {
        match id_day(id) {
            Some(day) if day < self.first => Err(EventError::IdTooOld { id, kept_from: self.first.start() }),
            Some(day) if day > self.last => Err(EventError::IdTooNew(id)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2024-10-14T17:18:51Z
    const NOW: Millis = 1_728_926_331_000;
    const DAY: Millis = 86_400_000;

    fn id(millis: Millis) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(millis.unsigned_abs(), &[0xff; 10]).into_uuid()
    }

    proptest! {
        #[test]
        fn the_day_is_that_of_the_time(millis in FIRST_DAY.start()..END_DAY.start()) {
            let (day, id) = (Day::of(millis), id(millis));
            prop_assert_eq!(id_day(id), Some(day));
            let (from, to) = ids_since(day);
            prop_assert!(from <= id && id < to);
            let (from, to) = ids_before(day);
            prop_assert!(id >= to && from <= to);
            let (from, to) = ids_before(Day(day.0 + 1));
            prop_assert!(from <= id && (id < to || day.0 + 1 == END_DAY.0));
        }
    }

    #[test]
    fn other_ids_have_no_day() {
        for text in ["f47ac10b-58cc-4372-a567-0e02b2c3d479", "0192e3c2-7b1a-7cc0-0000-3a5b1c2d4e5f"] {
            assert_eq!(id_day(text.parse().unwrap()), None, "{text}");
        }
        assert_eq!([Uuid::nil(), Uuid::max(), id(0), id(END_DAY.start())].map(id_day), [None; 4]);
    }

    #[test]
    fn days_outside_of_what_is_kept_are_refused_in_words() {
        let days = IdDays::at(NOW, Some(2), None).unwrap();
        assert_eq!([0, -DAY, -2 * DAY, DAY].map(|ago| days.check(id(NOW + ago))), [(); 4].map(Ok));
        let error = days.check(id(NOW - 3 * DAY)).unwrap_err();
        assert_eq!(error.reason(), "IdTooOld");
        assert!(error.to_string().contains("1728691200000"), "{error}");
        assert_eq!(days.check(id(NOW + 2 * DAY)).unwrap_err().reason(), "IdTooNew");
        assert_eq!(days.check(Uuid::from_u128(7)), Ok(()));
    }

    #[test]
    fn what_the_store_refuses_is_refused_whatever_the_setting_is() {
        let today = Day::of(NOW);
        assert_eq!(IdDays::at(NOW, None, None), None);
        assert_eq!(IdDays::at(NOW, None, Some(today)), IdDays::at(NOW, Some(9), Some(today)));
        assert_eq!(IdDays::at(NOW, Some(1), Some(today.back(5))), IdDays::at(NOW, Some(1), None));
    }
}
