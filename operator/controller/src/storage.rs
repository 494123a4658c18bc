//! How long the volume of Postgres will last. Pure.
//!
//! What is left of a volume is its capacity, less the tables and indexes, less what the write-ahead log may need if it is on the same volume,
//! less a margin of 5 %. The margin is for temporary files, other databases and the file system.

use ping_api::{crd::status::PostgresVolume, reason::Reason};

use crate::condition::ConditionValue;

/// One part in so many of the capacity is not counted on.
const MARGIN: f64 = 20.0;
/// The condition is true if less than this share of the capacity is left.
const LEAST_SHARE: f64 = 0.1;
/// The condition is true if the volume is full before this number of days: time to notice it after a weekend, and to act.
const LEAST_DAYS: f64 = 7.0;
/// More days than this are not told apart.
const MANY_DAYS: f64 = 99.0;
const REMEDY: &str = "Raise spec.postgres.cluster.storage.size, or set spec.events.retentionDays";

/// What a server reports about the store, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tables and indexes.
    pub used: i64,
    /// What the write-ahead log may need beside them.
    pub wal: i64,
    /// Growth of `used` per day; `None` while it is not known.
    pub growth_per_day: Option<i64>,
}

/// How full a volume is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    usage: Usage,
    volume: PostgresVolume,
}

impl Estimate {
    /// For a volume whose capacity is known.
    #[must_use]
    pub fn new(usage: Usage, volume: PostgresVolume) -> Option<Self> {
        (volume.bytes > 0).then_some(Self { usage, volume })
    }

    /// Bytes that are in use, or that the write-ahead log may need.
    fn taken(&self) -> f64 {
        self.usage.used as f64 + if self.volume.holds_wal { self.usage.wal as f64 } else { 0.0 }
    }

    /// Bytes that are left; negative if the margin is in use.
    fn left(&self) -> f64 {
        let capacity = self.volume.bytes as f64;
        capacity - capacity / MARGIN - self.taken()
    }

    /// Share of the capacity that is left; negative if the margin is in use.
    #[must_use]
    pub fn share_left(&self) -> f64 {
        self.left() / self.volume.bytes as f64
    }

    /// Days until nothing is left; `None` if the growth is not known, or there is none.
    #[must_use]
    pub fn days_left(&self) -> Option<f64> {
        let growth = self.usage.growth_per_day.filter(|growth| *growth > 0)?;
        Some((self.left() / growth as f64).max(0.0))
    }

    /// The condition `StorageLow`.
    #[must_use]
    pub fn condition(&self) -> ConditionValue {
        let fills_up = self.days_left().is_some_and(|days| days < LEAST_DAYS);
        match (self.share_left() < LEAST_SHARE, fills_up) {
            (true, _) => ConditionValue::met(Reason::AlmostFull, format!("{}. {REMEDY}", self.describe())),
            (false, true) => ConditionValue::met(Reason::FillsUp, format!("{}. {REMEDY}", self.describe())),
            (false, false) => ConditionValue::not_met(Reason::Sufficient, self.describe()),
        }
    }

    fn describe(&self) -> String {
        let Usage { used, wal, growth_per_day } = self.usage;
        let wal = match self.volume.holds_wal {
            true => format!(" and up to {} of write-ahead log", size(wal)),
            false => String::new(),
        };
        let growth = match (growth_per_day, self.days_left()) {
            (None, _) => "its growth is not known yet".into(),
            (Some(growth), Some(days)) => {
                format!("growing by {} per day, it is full in {}", size(growth), days_text(days))
            }
            (Some(_), None) => "it does not grow".into(),
        };
        format!("Postgres stores {}{wal} on a volume of {}; {growth}", size(used), size(self.volume.bytes))
    }

    /// For `status.stats.storage`: `74%, 9d left`.
    #[must_use]
    pub fn summary(&self) -> String {
        let percent = (self.taken() / self.volume.bytes as f64 * 100.0).round();
        match self.days_left() {
            Some(days) if days <= MANY_DAYS => format!("{percent}%, {days:.0}d left", days = days.floor()),
            _ => format!("{percent}%"),
        }
    }
}

fn days_text(days: f64) -> String {
    match days.floor() {
        0.0 => "less than a day".into(),
        1.0 => "a day".into(),
        days if days <= MANY_DAYS => format!("{days} days"),
        _ => format!("more than {MANY_DAYS} days"),
    }
}

/// Bytes in MiB or GiB. It is coarse so that it rarely changes.
fn size(bytes: i64) -> String {
    const MIB: f64 = 1_048_576.0;
    match bytes as f64 / MIB {
        mib if mib < 1024.0 => format!("{mib:.0} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: i64 = 1 << 30;

    fn estimate(used: i64, growth_per_day: Option<i64>, holds_wal: bool) -> Estimate {
        let usage = Usage { used, wal: 2 * GIB, growth_per_day };
        Estimate::new(usage, PostgresVolume { bytes: 100 * GIB, holds_wal }).unwrap()
    }

    fn condition(estimate: &Estimate) -> (bool, &'static str, String) {
        let value = estimate.condition();
        (value.is_met(), value.reason.as_str(), value.message)
    }

    #[test]
    fn the_log_and_a_margin_are_not_available() {
        let days = |estimate: Estimate| estimate.days_left().unwrap();
        assert_eq!(days(estimate(83 * GIB, Some(GIB), true)).round(), 10.0, "100 less 83, 2 and 5");
        assert_eq!(days(estimate(83 * GIB, Some(GIB), false)).round(), 12.0, "the log has a volume of its own");
        assert_eq!(days(estimate(99 * GIB, Some(GIB), true)), 0.0);
        assert_eq!(estimate(83 * GIB, None, true).days_left(), None);
        assert_eq!(estimate(83 * GIB, Some(-GIB), true).days_left(), None);
    }

    #[test]
    fn it_is_low_below_ten_percent_or_seven_days() {
        let (low, reason, message) = condition(&estimate(50 * GIB, Some(GIB), true));
        assert_eq!((low, reason), (false, "Sufficient"));
        assert_eq!(
            message,
            "Postgres stores 50.0 GiB and up to 2.0 GiB of write-ahead log on a volume of 100.0 GiB; growing by 1.0 GiB per day, it is \
             full in 43 days"
        );
        let (low, reason, message) = condition(&estimate(50 * GIB, Some(9 * GIB), true));
        assert_eq!((low, reason), (true, "FillsUp"));
        assert!(
            message.ends_with(
                "full in 4 days. Raise spec.postgres.cluster.storage.size, or set spec.events.retentionDays"
            )
        );
        assert_eq!(condition(&estimate(84 * GIB, Some(0), true)).1, "AlmostFull");
        assert_eq!(condition(&estimate(84 * GIB, Some(0), false)).1, "Sufficient");
        assert!(condition(&estimate(20 * GIB, Some(0), true)).2.ends_with("it does not grow"));
        assert!(condition(&estimate(20 * GIB, None, true)).2.ends_with("its growth is not known yet"));
    }

    #[test]
    fn the_summary_is_short() {
        assert_eq!(estimate(72 * GIB, Some(3 * GIB), true).summary(), "74%, 7d left");
        assert_eq!(estimate(72 * GIB, Some(1), true).summary(), "74%", "more than 99 days");
        assert_eq!(estimate(200 * GIB, Some(GIB), true).summary(), "202%, 0d left");
        assert_eq!(Estimate::new(Usage { used: 1, wal: 1, growth_per_day: None }, PostgresVolume::default()), None);
    }
}
