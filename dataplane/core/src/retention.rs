//! How long the views keep what they hold.

use uuid::Uuid;

use crate::{Day, Generation, Millis, Minute, SourceCounts};

/// Minutes of which it is known who was there.
const MINUTES: i64 = 60;

/// How long the views keep what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days that windows are kept, today not counted.
    pub windows: i64,
    /// Days that daily counts are kept; none: for ever.
    pub days: Option<i64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { windows: 7, days: None }
    }
}

impl Retention {
    /// What is kept when it is `now`.
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

/// What the views hold today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionCutoffs {
    /// The day it is.
    pub today: Day,
    /// The first day whose windows are kept.
    pub windows: Day,
    /// The first day whose count is kept.
    pub days: Day,
    /// The first minute of which it is known who was there; none: nobody asks.
    pub minutes: Option<Minute>,
}

/// How the generation of a filling begins that knows who was there in which minute. Whoever adds to it must go on with that, and
/// whoever tells of minutes needs such a filling.
const WITH_MINUTES: &str = "minutes-";

impl RetentionCutoffs {
    /// `counts` without what is too old to be kept.
    #[must_use]
    pub fn keep(self, mut counts: SourceCounts) -> SourceCounts {
        counts.windows.retain(|(_, window), _| window.day() >= self.windows);
        counts.days.retain(|(_, day), _| *day >= self.days);
        counts.minutes.retain(|(minute, _)| self.minutes.is_some_and(|first| *minute >= first));
        counts
    }

    /// The same without who was there in which minute: a row for each of them in each minute is a quarter of the work.
    #[must_use]
    pub fn without_minutes(self) -> Self {
        Self { minutes: None, ..self }
    }

    /// A name for a new filling with what is kept.
    #[must_use]
    pub fn generation(self) -> Generation {
        let minutes = if self.minutes.is_some() { WITH_MINUTES } else { "" };
        format!("{minutes}{}", Uuid::now_v7())
    }

    /// What of it the filling `generation` holds.
    #[must_use]
    pub fn of_filling(self, generation: &Generation) -> Self {
        if generation.starts_with(WITH_MINUTES) { self } else { self.without_minutes() }
    }
}
