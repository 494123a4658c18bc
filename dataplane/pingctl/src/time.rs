//! Times, durations and time ranges of the command line.

use std::time::Duration;

use clap::Args;
use jiff::{Span, SpanRelativeTo, Timestamp, civil::DateTime, tz::TimeZone};
use ping_proto::TimeRange;

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = i64;

/// The current time of this machine's clock.
pub(crate) fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// Parses RFC 3339, a date or a date and time (both UTC), or milliseconds since the Unix epoch.
pub(crate) fn parse_time(text: &str) -> Result<Millis, String> {
    if let Ok(millis) = text.parse::<Millis>() {
        return Ok(millis);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    let civil = text.parse::<DateTime>().ok().and_then(|civil| civil.to_zoned(TimeZone::UTC).ok());
    civil.map(|zoned| zoned.timestamp().as_millisecond()).ok_or_else(|| {
        "not a time; write 2026-01-31T09:00:00Z, 2026-01-31T09:00:00+01:00, 2026-01-31 (UTC), or milliseconds since 1970"
            .to_owned()
    })
}

/// Parses a time, but not 1970-01-01, which is 0: to the API, that means no time. `meaning` says what it means there.
fn parse_set_time(text: &str, meaning: &str) -> Result<Millis, String> {
    match parse_time(text)? {
        0 => Err(meaning.to_owned()),
        time => Ok(time),
    }
}

/// Parses when an event happened.
pub(crate) fn parse_event_time(text: &str) -> Result<Millis, String> {
    parse_set_time(text, "to the API, 0 means now; leave the option out for now, or write a time from the year 2000 on")
}

/// Parses the end of a range.
fn parse_end(text: &str) -> Result<Millis, String> {
    parse_set_time(text, "to the API, an end of 0 means no end; leave the option out for no end, or write a later time")
}

/// Parses a positive duration such as 500ms, 90s, 1h30m or 2d.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<Span>().map_err(|_| "not a duration; write 500ms, 90s, 1h30m or 2d")?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    match Duration::try_from(length) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err("a duration must be positive".to_owned()),
    }
}

/// Parses a duration, and returns the time that long ago; the epoch if it was before that.
pub(crate) fn parse_ago(text: &str) -> Result<Millis, String> {
    let start = Timestamp::now().checked_sub(parse_duration(text)?);
    start.map(|start| start.as_millisecond().max(0)).map_err(|error| error.to_string())
}

/// A range of event time.
#[derive(Debug, Args)]
pub(crate) struct RangeArgs {
    /// Only events of the last …, e.g. 90s, 1h, 2d, by this machine's clock.
    #[arg(long, value_name = "DURATION", value_parser = parse_ago, conflicts_with_all = ["from", "to"])]
    since: Option<Millis>,
    /// Only events at or after this time: RFC 3339, a date (UTC) or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    from: Option<Millis>,
    /// Only events before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_end, allow_negative_numbers = true)]
    to: Option<Millis>,
}

impl RangeArgs {
    /// The range; `None` without any of the options.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        let start = self.since.or(self.from);
        // On the wire, 0 means unbounded.
        (start.is_some() || self.to.is_some())
            .then(|| TimeRange { start: start.unwrap_or(0), end: self.to.unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_four_ways() {
        assert_eq!(parse_time("1728926331000"), Ok(1_728_926_331_000));
        assert_eq!(parse_time("2024-10-14T17:18:51Z"), Ok(1_728_926_331_000));
        assert_eq!(parse_time("2024-10-14T19:18:51+02:00"), Ok(1_728_926_331_000));
        assert_eq!(parse_time("2024-10-14"), Ok(1_728_864_000_000));
        assert_eq!(parse_time("2024-10-14T17:18:51"), Ok(1_728_926_331_000));
        assert!(parse_time("yesterday").unwrap_err().contains("write 2026"));
    }

    #[test]
    fn a_time_that_the_api_would_take_for_none_is_refused() {
        for epoch in ["0", "1970-01-01", "1970-01-01T01:00:00+01:00"] {
            assert!(parse_end(epoch).unwrap_err().contains("no end"), "{epoch}");
            assert!(parse_event_time(epoch).unwrap_err().contains("now"), "{epoch}");
        }
        assert_eq!((parse_end("1"), parse_event_time("-5")), (Ok(1), Ok(-5)));
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(["90", "0s", "-5s", "1 month"].iter().all(|text| parse_duration(text).is_err()));
    }

    #[test]
    fn a_start_before_the_epoch_is_the_epoch() {
        assert_eq!(parse_ago("100000d"), Ok(0));
        assert!(parse_ago("5").is_err());
    }
}
