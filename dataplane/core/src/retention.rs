//! How long the views per source keep what they hold.

use crate::time::{Day, Millis, Minute};

/// Minutes whose unique sources are kept.
const MINUTES: i64 = 60;

/// How long the views keep what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days for which five-minute windows are kept, not counting today.
    pub windows: i64,
    /// Days for which daily counts are kept, not counting today; `None` keeps them indefinitely.
    pub days: Option<i64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { windows: 7, days: None }
    }
}

impl Retention {
    /// What is kept at the time `now`.
    #[must_use]
    pub fn at(self, now: Millis) -> RetentionCutoffs {
        let today = Day::of(now);
        let days = self.days.map_or(Day(0), |days| today.back(days));
        RetentionCutoffs {
            today,
            windows: today.back(self.windows),
            days,
            minutes: Some(Minute::of(now).back(MINUTES)),
        }
    }
}

/// What the views keep at a given time; anything older is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionCutoffs {
    /// The current day.
    pub today: Day,
    /// The first day whose windows are kept.
    pub windows: Day,
    /// The first day whose count is kept.
    pub days: Day,
    /// The first minute whose unique sources are kept; `None` when the views hold no unique sources.
    pub minutes: Option<Minute>,
}

impl RetentionCutoffs {
    /// The same without unique sources per minute. One row per source and minute is a quarter of the work, so they are only
    /// kept when minutes are published.
    #[must_use]
    pub fn without_minutes(self) -> Self {
        Self { minutes: None, ..self }
    }
}
