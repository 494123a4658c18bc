//! Statistics, rankings and series per source.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use ping_core::{Day, MAX_SOURCE_BYTES, Millis, Minute, Retention, Span, TimeRange, Window};
use ping_ports::{Clock, SourceReader, SourceSummary, StoreError};

/// Maximum number of steps in a series.
const MAX_STEPS: i64 = 10_000;
/// Maximum number of sources in a ranking.
const MAX_TOP_SOURCES: u32 = 1_000;
/// Number of sources in a ranking if the caller does not say.
const DEFAULT_TOP_SOURCES: u32 = 10;

/// The length of a step in a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One minute; for all events only.
    Minute,
    /// Five minutes: the width of a window.
    FiveMinutes,
    /// One hour.
    Hour,
    /// One day in UTC.
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
    /// Start of the step.
    pub start: Millis,
    /// Number of events in the step.
    pub count: i64,
    /// Mean time between consecutive events, in milliseconds. None for all events, for days, and for fewer than two events.
    pub average_interval: Option<f64>,
    /// The step ended at or before `as_of`, so every event acknowledged by its end is included. Late events still correct it.
    pub closed: bool,
}

/// A value and its watermark.
#[derive(Clone, Debug, PartialEq)]
pub struct AsOf<T> {
    /// The value.
    pub value: T,
    /// Watermark: every event acknowledged before this time is included, none twice. 0 before anything was counted.
    pub as_of: Millis,
    /// Now minus `as_of`, in milliseconds; never negative.
    pub lag: Millis,
}

impl<T> AsOf<T> {
    pub(super) fn new(value: T, as_of: Millis, now: Millis) -> Self {
        Self { value, as_of, lag: (now - as_of).max(0) }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source is empty or too long; the value is its length in bytes.
    #[error("source must have 1 to {MAX_SOURCE_BYTES} bytes; it has {0}")]
    InvalidSource(usize),
    /// Views per source have no counts per minute.
    #[error("per-source series need a step of 5m or more; use STEP_FIVE_MINUTES, or leave the source out")]
    StepTooShort,
    /// The series would have more steps than one response may hold.
    #[error("the series has too many steps ({0}; at most {MAX_STEPS}); use a shorter range or a longer step")]
    TooManySteps(i64),
    /// The range does not start and end on window boundaries.
    #[error("time_range must start and end on five-minute boundaries (multiples of 300000 ms)")]
    Unaligned,
    /// The range starts before the retention of the windows.
    #[error(
        "five-minute windows are kept since {since}, but time_range starts at {start}; use STEP_DAY or a later start"
    )]
    Expired {
        /// Start of the oldest window that is kept.
        since: Millis,
        /// Start of the requested range.
        start: Millis,
    },
    /// The range starts before the retention of the days.
    #[error(
        "daily counts per source are kept since {since} (--day-retention-days), but time_range starts at {start}; use a later start"
    )]
    DaysExpired {
        /// Start of the oldest day that is kept.
        since: Millis,
        /// Start of the requested range.
        start: Millis,
    },
    /// The limit of a ranking is out of range.
    #[error("limit must be between 1 and {MAX_TOP_SOURCES}; it is {0}")]
    Limit(i64),
}

/// Reads the views per source.
#[derive(Clone)]
pub struct SourceQuery {
    reader: Arc<dyn SourceReader>,
    clock: Arc<dyn Clock>,
    retention: Retention,
}

impl SourceQuery {
    /// `retention` must equal that of the processors.
    #[must_use]
    pub fn new(reader: Arc<dyn SourceReader>, clock: Arc<dyn Clock>, retention: Retention) -> Self {
        Self { reader, clock, retention }
    }

    /// Statistics of `source`; empty if it has no events.
    ///
    /// # Errors
    /// When `source` is empty or too long, or the store does not answer.
    pub async fn stats(&self, source: &str) -> Result<AsOf<SourceSummary>, SourceError> {
        validate_source(source)?;
        let since = Window(Window::of(self.clock.now()).0 - Window::PER_DAY + 1);
        let as_of = self.reader.as_of().await?;
        let summary = self.reader.summary(source, since).await?.unwrap_or_default();
        Ok(AsOf::new(summary, as_of, self.clock.now()))
    }

    /// The `limit` sources with the most events in `range`, or of all time, highest count first. A limit of 0 means 10.
    ///
    /// # Errors
    /// When the range is not aligned or starts before the retention, the limit is out of range, or the store does not answer.
    pub async fn top(&self, range: Option<TimeRange>, limit: i64) -> Result<AsOf<Vec<(String, i64)>>, SourceError> {
        let limit = match u32::try_from(limit) {
            Ok(0) => DEFAULT_TOP_SOURCES,
            Ok(limit) if limit <= MAX_TOP_SOURCES => limit,
            _ => return Err(SourceError::Limit(limit)),
        };
        let split = range.map(|range| range.whole_windows().ok_or(SourceError::Unaligned)).transpose()?;
        if let Some((first, _)) = split.as_ref().and_then(|split| split.windows.first()) {
            self.check_windows(first.start())?;
        }
        if let Some((first, _)) = split.as_ref().and_then(|split| split.days.first()) {
            self.check_days(first.start())?;
        }
        let as_of = self.reader.as_of().await?;
        let top = self.reader.top(split.as_ref(), limit).await?;
        Ok(AsOf::new(top, as_of, self.clock.now()))
    }

    /// All events per minute, from `from` to before `to`; minutes without events may be missing.
    pub(crate) async fn minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        self.reader.all_minutes(from, to).await
    }

    /// Counts over time: of `source`, or of all events if it is empty. One point per step of `range`, in order; steps without events
    /// have a count of 0.
    ///
    /// # Errors
    /// When the series has too many steps, the step is too short or the range starts before the retention, or the store does not
    /// answer.
    pub async fn series(&self, source: &str, range: TimeRange, step: Step) -> Result<AsOf<Vec<Point>>, SourceError> {
        let width = step.millis();
        let end = if range.end() == Millis::MAX { self.clock.now() + 1 } else { range.end() };
        let (first, past_last) = (range.start().div_euclid(width), end.saturating_add(width - 1).div_euclid(width));
        if past_last - first > MAX_STEPS {
            return Err(SourceError::TooManySteps(past_last - first));
        }
        let (start, end) = (first * width, past_last * width);
        // Commits maintain the totals, so these are as of now; the views are behind the log.
        let (as_of, points) = if source.is_empty() {
            (self.clock.now(), self.total_points(step, start, end).await?)
        } else {
            validate_source(source)?;
            (self.reader.as_of().await?, self.source_points(source, step, start, end).await?)
        };
        let point = |index: i64| {
            let (count, average_interval) = points.get(&index).copied().unwrap_or_default();
            Point { start: index * width, count, average_interval, closed: (index + 1) * width <= as_of }
        };
        Ok(AsOf::new((first..past_last).map(point).collect(), as_of, self.clock.now()))
    }

    /// Steps with events, of all events, from the totals.
    async fn total_points(&self, step: Step, start: Millis, end: Millis) -> Result<Points, SourceError> {
        let mut points = Points::new();
        if step == Step::Day {
            let days = self.reader.all_days(Day::of(start), Day::of(end)).await?;
            points.extend(days.into_iter().map(|(day, count)| (day.0, (count, None))));
            return Ok(points);
        }
        let minutes_per_step = step.millis() / Step::Minute.millis();
        for (minute, count) in self.reader.all_minutes(Minute::of(start), Minute::of(end)).await? {
            points.entry(minute.0.div_euclid(minutes_per_step)).or_default().0 += count;
        }
        Ok(points)
    }

    /// Steps with events of `source`, from the views.
    async fn source_points(&self, source: &str, step: Step, start: Millis, end: Millis) -> Result<Points, SourceError> {
        if step == Step::Minute {
            return Err(SourceError::StepTooShort);
        }
        if step == Step::Day {
            self.check_days(start)?;
            let days = self.reader.days(source, Day::of(start), Day::of(end)).await?;
            return Ok(days.into_iter().map(|(day, count)| (day.0, (count, None))).collect());
        }
        self.check_windows(start)?;
        let mut spans: BTreeMap<i64, Span> = BTreeMap::new();
        for (window, span) in self.reader.windows(source, Window::of(start), Window::of(end)).await? {
            let index = window.start().div_euclid(step.millis());
            spans.entry(index).and_modify(|merged| *merged = merged.merge(span)).or_insert(span);
        }
        Ok(spans.into_iter().map(|(index, span)| (index, (span.count, span.average_interval()))).collect())
    }

    /// Refuses to report deleted windows as windows without events.
    fn check_windows(&self, start: Millis) -> Result<(), SourceError> {
        let since = self.retention.at(self.clock.now()).windows.start();
        if start < since { Err(SourceError::Expired { since, start }) } else { Ok(()) }
    }

    /// Refuses to report deleted days as days without events.
    fn check_days(&self, start: Millis) -> Result<(), SourceError> {
        let since = self.retention.at(self.clock.now()).days.start();
        if start < since { Err(SourceError::DaysExpired { since, start }) } else { Ok(()) }
    }
}

/// Count and mean interval by step: the index is the start divided by the length of a step.
type Points = BTreeMap<i64, (i64, Option<f64>)>;

/// Checks the length of `source`; no event can have an empty or longer one.
pub(super) fn validate_source(source: &str) -> Result<(), SourceError> {
    let fits = (1..=MAX_SOURCE_BYTES).contains(&source.len());
    if fits { Ok(()) } else { Err(SourceError::InvalidSource(source.len())) }
}
