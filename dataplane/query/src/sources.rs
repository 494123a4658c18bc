//! Reading what is known per source.

use std::{collections::BTreeMap, sync::Arc};

use ping_core::{Day, MAX_SOURCE_BYTES, Millis, Minute, Retention, Span, TimeRange, Window};
use ping_ports::{Clock, SourceReader, SourceSummary, StoreError};

/// Most points of a series.
const MAX_POINTS: i64 = 10_000;
/// Most sources of a list.
const MAX_TOP: u32 = 1_000;
/// Windows of 24 hours.
const ROLLING: i64 = 288;

/// The width of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Of everything only.
    Minute,
    /// The window of the views.
    FiveMinutes,
    /// Twelve windows.
    Hour,
    /// UTC.
    Day,
}

impl Step {
    fn millis(self) -> Millis {
        match self {
            Self::Minute => 60_000,
            Self::FiveMinutes => 300_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }
}

/// One step of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When it begins.
    pub start: Millis,
    /// Events in it.
    pub count: i64,
    /// Mean time between them, in milliseconds, where it is known.
    pub average_interval: Option<f64>,
    /// It is over, and everything acknowledged by its end is in it. What comes late corrects it all the same.
    pub closed: bool,
}

/// An answer, and how fresh it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Dated<T> {
    /// The answer.
    pub value: T,
    /// Every event acknowledged before this time is in it, and none is in it twice. 0 when nothing is promised.
    pub as_of: Millis,
    /// How long ago that was, in milliseconds.
    pub lag: Millis,
}

impl<T> Dated<T> {
    pub(super) fn new(value: T, as_of: Millis, now: Millis) -> Self {
        Self { value, as_of, lag: (now - as_of).max(0) }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can have such a source.
    #[error("source must have 1 to {MAX_SOURCE_BYTES} bytes; it has {0}")]
    Source(usize),
    /// Finer than is kept.
    #[error("a source has no minutes; ask for steps of five minutes, or leave the source out")]
    TooFine,
    /// Longer than anybody reads.
    #[error("{0} steps are too many; ask for {MAX_POINTS} at most: a shorter range, or a longer step")]
    TooMany(i64),
    /// The range does not fit the windows.
    #[error("time_range must begin and end with a window of five minutes: multiples of 300000 ms")]
    Ragged,
    /// Older than is kept.
    #[error(
        "windows are kept since {since}, and the range begins at {start}; ask for whole days, or for a later range"
    )]
    Gone {
        /// The first moment that is kept.
        since: Millis,
        /// The moment asked for.
        start: Millis,
    },
    /// More than anybody reads.
    #[error("limit must be 1 to {MAX_TOP}; it is {0}")]
    Limit(i64),
}

/// Answers questions about sources.
#[derive(Clone)]
pub struct SourceQuery {
    reader: Arc<dyn SourceReader>,
    clock: Arc<dyn Clock>,
    retention: Retention,
}

impl SourceQuery {
    /// `retention`: as the processors keep it.
    #[must_use]
    pub fn new(reader: Arc<dyn SourceReader>, clock: Arc<dyn Clock>, retention: Retention) -> Self {
        Self { reader, clock, retention }
    }

    /// What is known of `source`; nothing when it was never seen.
    ///
    /// # Errors
    /// When it can be nobody's name, or the store does not answer.
    pub async fn stats(&self, source: &str) -> Result<Dated<SourceSummary>, SourceError> {
        named(source)?;
        let since = Window(Window::of(self.clock.now()).0 - ROLLING + 1);
        let as_of = self.reader.as_of().await?;
        let known = self.reader.summary(source, since).await?.unwrap_or_default();
        Ok(Dated::new(known, as_of, self.clock.now()))
    }

    /// The busiest sources of `range`, or ever.
    ///
    /// # Errors
    /// When the range is ragged or gone, the limit too high, or the store does not answer.
    pub async fn top(&self, range: Option<TimeRange>, limit: i64) -> Result<Dated<Vec<(String, i64)>>, SourceError> {
        let limit = match limit {
            0 => 10,
            limit => u32::try_from(limit).ok().filter(|limit| *limit <= MAX_TOP).ok_or(SourceError::Limit(limit))?,
        };
        let split = range.map(|range| range.whole_windows().ok_or(SourceError::Ragged)).transpose()?;
        if let Some((first, _)) = split.as_ref().and_then(|split| split.windows.first()) {
            self.kept(first.start())?;
        }
        let as_of = self.reader.as_of().await?;
        let top = self.reader.top(split.as_ref(), limit).await?;
        Ok(Dated::new(top, as_of, self.clock.now()))
    }

    /// Counts of `source`, or of everything when it is empty, in steps over `range`, none left out.
    ///
    /// # Errors
    /// When it has too many steps, is finer or older than is kept, or the store does not answer.
    pub async fn series(&self, source: &str, range: TimeRange, step: Step) -> Result<Dated<Vec<Point>>, SourceError> {
        let width = step.millis();
        let end = if range.end() == Millis::MAX { self.clock.now() + 1 } else { range.end() };
        let (from, to) = (range.start().div_euclid(width), (end + width - 1).div_euclid(width));
        if to - from > MAX_POINTS {
            return Err(SourceError::TooMany(to - from));
        }
        let (from_ms, to_ms) = (from * width, to * width);
        // The totals are in the commit itself: they are as of now.
        let (as_of, points) = if source.is_empty() {
            (self.clock.now(), self.everything(step, from_ms, to_ms).await?)
        } else {
            named(source)?;
            (self.reader.as_of().await?, self.of_source(source, step, from_ms, to_ms).await?)
        };
        let point = |place: i64| {
            let (count, average_interval) = points.get(&place).copied().unwrap_or_default();
            Point { start: place * width, count, average_interval, closed: (place + 1) * width <= as_of }
        };
        Ok(Dated::new((from..to).map(point).collect(), as_of, self.clock.now()))
    }

    /// Steps that have an event, from the totals.
    async fn everything(&self, step: Step, from: Millis, to: Millis) -> Result<Points, SourceError> {
        let mut points = Points::new();
        if step == Step::Day {
            let days = self.reader.all_days(Day::of(from), Day::of(to)).await?;
            points.extend(days.into_iter().map(|(day, count)| (day.0, (count, None))));
            return Ok(points);
        }
        let per_step = step.millis() / Step::Minute.millis();
        for (minute, count) in self.reader.all_minutes(Minute::of(from), Minute::of(to)).await? {
            points.entry(minute.0.div_euclid(per_step)).or_default().0 += count;
        }
        Ok(points)
    }

    /// Steps in which `source` has an event.
    async fn of_source(&self, source: &str, step: Step, from: Millis, to: Millis) -> Result<Points, SourceError> {
        if step == Step::Minute {
            return Err(SourceError::TooFine);
        }
        if step == Step::Day {
            let days = self.reader.days(source, Day::of(from), Day::of(to)).await?;
            return Ok(days.into_iter().map(|(day, count)| (day.0, (count, None))).collect());
        }
        self.kept(from)?;
        let mut spans: BTreeMap<i64, Span> = BTreeMap::new();
        for (window, span) in self.reader.windows(source, Window::of(from), Window::of(to)).await? {
            let place = window.start().div_euclid(step.millis());
            spans.entry(place).and_modify(|held| *held = held.merge(span)).or_insert(span);
        }
        Ok(spans.into_iter().map(|(place, span)| (place, (span.count, span.average_interval()))).collect())
    }

    /// Windows that are gone are not windows without an event.
    fn kept(&self, start: Millis) -> Result<(), SourceError> {
        let since = self.retention.at(self.clock.now()).windows.start();
        if start < since { Err(SourceError::Gone { since, start }) } else { Ok(()) }
    }
}

/// Count and mean interval, by place.
type Points = BTreeMap<i64, (i64, Option<f64>)>;

pub(super) fn named(source: &str) -> Result<(), SourceError> {
    let fits = (1..=MAX_SOURCE_BYTES).contains(&source.len());
    if fits { Ok(()) } else { Err(SourceError::Source(source.len())) }
}
