//! The views per source: what a processor makes of the log, in tables of the store.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Advance, Applied, StoreError};
use crate::domain::{Day, Generation, Millis, Minute, Offset, Partition, Positions, Span, Window, WindowSplit};

/// What some events add to the views. Events without a source are of nobody and add nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Per source and window.
    pub windows: BTreeMap<(Box<str>, Window), Span>,
    /// Per source and day.
    pub days: BTreeMap<(Box<str>, Day), i64>,
    /// Per source and kind.
    pub kinds: BTreeMap<(Box<str>, Box<str>), Span>,
    /// Who was there in which minute.
    pub minutes: BTreeSet<(Minute, Box<str>)>,
}

impl SourceCounts {
    /// Adds one event; false when it is of nobody.
    pub fn add(&mut self, source: &str, kind: &str, at: Millis) -> bool {
        if source.is_empty() {
            return false;
        }
        let span = Span::of(at);
        let merge = |held: &mut Span| *held = held.merge(span);
        self.windows.entry((source.into(), Window::of(at))).and_modify(merge).or_insert(span);
        self.kinds.entry((source.into(), kind.into())).and_modify(merge).or_insert(span);
        *self.days.entry((source.into(), Day::of(at))).or_insert(0) += 1;
        self.minutes.insert((Minute::of(at), source.into()));
        true
    }

    /// Adds what others added up.
    pub fn merge(&mut self, other: &Self) {
        let merge = |held: &mut Span, span: &Span| *held = held.merge(*span);
        for (key, span) in &other.windows {
            self.windows.entry(key.clone()).and_modify(|held| merge(held, span)).or_insert(*span);
        }
        for (key, span) in &other.kinds {
            self.kinds.entry(key.clone()).and_modify(|held| merge(held, span)).or_insert(*span);
        }
        for (key, count) in &other.days {
            *self.days.entry(key.clone()).or_insert(0) += count;
        }
        self.minutes.extend(other.minutes.iter().cloned());
    }
}

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
    pub fn at(self, now: Millis) -> Kept {
        let today = Day::of(now);
        let days = self.days.map_or(Day(0), |days| today.back(days));
        Kept { today, windows: today.back(self.windows), days, minutes: Some(Minute::of(now).back(MINUTES)) }
    }
}

/// What the views hold today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
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

impl Kept {
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

/// Writing the views: counts and positions change together or not at all, as in the cache.
#[async_trait]
pub trait SourceViews: Send + Sync {
    /// Where they stand; `None` when they were never built.
    async fn positions(&self) -> Result<Option<Positions>, StoreError>;

    /// Adds `counts` and moves the positions in one atomic step, if generation and offsets are as `advance` says.
    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError>;

    /// Builds everything anew from one consistent look at the events, at these offsets and after the last number of every
    /// writer, under a new generation, if the generation is still `seen`. False: it is not.
    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        ends: &BTreeMap<Partition, Offset>,
        kept: Kept,
    ) -> Result<bool, StoreError>;

    /// Drops what is not kept any more, and the marks of writers that can never appear again.
    async fn tidy(&self, kept: Kept) -> Result<(), StoreError>;
}

/// What is known of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceSummary {
    /// Per kind.
    pub kinds: BTreeMap<Box<str>, Span>,
    /// Events in the windows asked for.
    pub recent: i64,
}

/// Reading the views. Each answer is from one look.
#[async_trait]
pub trait SourceReader: Send + Sync {
    /// Every event acknowledged before this time is in the views: to be asked before what it is to hold for. 0 when nothing is
    /// promised.
    async fn as_of(&self) -> Result<Millis, StoreError>;

    /// One source, with its events in the windows from `since` on; `None` when it was never seen.
    async fn summary(&self, source: &str, since: Window) -> Result<Option<SourceSummary>, StoreError>;

    /// What a source did; nothing when it was never seen.
    async fn kinds(&self, source: &str) -> Result<BTreeMap<Box<str>, Span>, StoreError> {
        Ok(self.summary(source, Window(i64::MAX)).await?.unwrap_or_default().kinds)
    }

    /// How often each of these did that: (source, kind) pairs.
    async fn counts(&self, pairs: &[(Box<str>, Box<str>)]) -> Result<Vec<i64>, StoreError>;

    /// The sources with the most events in a range, or ever, the busiest first, equals by name.
    async fn top(&self, range: Option<&WindowSplit>, limit: u32) -> Result<Vec<(String, i64)>, StoreError>;

    /// A source's windows from `from` to before `to`; those without an event are left out.
    async fn windows(&self, source: &str, from: Window, to: Window) -> Result<BTreeMap<Window, Span>, StoreError>;

    /// A source's days from `from` to before `to`; those without an event are left out.
    async fn days(&self, source: &str, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;

    /// How many sources there were per minute, of the last hour.
    async fn uniques(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// Everything per minute, from the totals: exact as of now.
    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError>;

    /// Everything per day, likewise.
    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError>;
}
