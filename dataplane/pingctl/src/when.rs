//! Times and durations as people write them.

use std::time::Duration;

use clap::Args;
use jiff::{Span, SpanRelativeTo, Timestamp, civil::DateTime, tz::TimeZone};
use ping_proto::TimeRange;

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = i64;

/// The current time by this machine's clock.
pub(crate) fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// Milliseconds since the epoch from RFC 3339, a date, a date and time (UTC), or milliseconds.
pub(crate) fn time(text: &str) -> Result<Millis, String> {
    if let Ok(millis) = text.parse::<Millis>() {
        return Ok(millis);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let civil = text.parse::<DateTime>().ok().and_then(|at| at.to_zoned(TimeZone::UTC).ok());
    civil.map(|at| at.timestamp().as_millisecond()).ok_or_else(|| {
        "not a time; write 2026-01-31T09:00:00Z, 2026-01-31T09:00:00+01:00, 2026-01-31 (UTC), or milliseconds since 1970"
            .to_owned()
    })
}

/// A duration such as 500ms, 90s, 1h30m or 2d; more than nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<Span>().map_err(|_| "not a duration; write 500ms, 90s, 1h30m or 2d")?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    match Duration::try_from(length) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err("a duration is more than nothing".to_owned()),
    }
}

/// A range of event time.
#[derive(Debug, Args)]
pub(crate) struct RangeArgs {
    /// Only events of the last …, e.g. 90s, 1h, 2d, by this machine's clock.
    #[arg(long, value_parser = duration, conflicts_with_all = ["from", "to"])]
    since: Option<Duration>,
    /// Only events at or after this time: RFC 3339, a date (UTC) or milliseconds since 1970.
    #[arg(long, value_parser = time, allow_negative_numbers = true)]
    from: Option<Millis>,
    /// Only events before this time.
    #[arg(long, value_parser = time, allow_negative_numbers = true)]
    to: Option<Millis>,
}

impl RangeArgs {
    /// Nothing when all of it is asked for.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        if let Some(since) = self.since {
            let since = Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX);
            return Some(TimeRange { start: now().saturating_sub(since).max(0), end: 0 });
        }
        (self.from.is_some() || self.to.is_some())
            .then(|| TimeRange { start: self.from.unwrap_or(0), end: self.to.unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_four_ways() {
        assert_eq!(time("1728926331000"), Ok(1_728_926_331_000));
        assert_eq!(time("2024-10-14T17:18:51Z"), Ok(1_728_926_331_000));
        assert_eq!(time("2024-10-14T19:18:51+02:00"), Ok(1_728_926_331_000));
        assert_eq!(time("2024-10-14"), Ok(1_728_864_000_000));
        assert_eq!(time("2024-10-14T17:18:51"), Ok(1_728_926_331_000));
        assert!(time("yesterday").unwrap_err().contains("write 2026"));
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(["90", "0s", "-5s", "1 month"].iter().all(|text| duration(text).is_err()));
    }
}
