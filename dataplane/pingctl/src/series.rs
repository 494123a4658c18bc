//! `pingctl series`

use std::io;

use buffa::MessageField;
use clap::{Args, ValueEnum};
use ping_client::Client;
use ping_proto::{SeriesRequest, SeriesResponse, Step, TimeRange};

use crate::{
    client::{Server, is_retryable_query},
    exit::Exit,
    output::{self, Format},
    settings::Settings,
    time::{self, Millis, RangeArgs},
};

/// How far back a series starts when no range is given: one hour.
const DEFAULT_RANGE_MS: Millis = 3_600_000;

/// Arguments of `pingctl series`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl series --since 1h                                # all events, by the minute
  pingctl series example.com --since 1d --step hour
  pingctl series --from 2026-01-01 --to 2026-02-01 --step day")]
pub(crate) struct SeriesArgs {
    /// Source to filter by (default: all).
    #[arg(default_value = "", hide_default_value = true)]
    source: String,
    /// Length of a step. Default: a minute for all events, five minutes for one source.
    #[arg(long, value_enum)]
    step: Option<StepName>,
    #[command(flatten)]
    range: RangeArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StepName {
    Minute,
    #[value(name = "5m")]
    FiveMinutes,
    Hour,
    Day,
}

impl From<StepName> for Step {
    fn from(name: StepName) -> Self {
        match name {
            StepName::Minute => Self::Minute,
            StepName::FiveMinutes => Self::FiveMinutes,
            StepName::Hour => Self::Hour,
            StepName::Day => Self::Day,
        }
    }
}

/// Shows counts over time.
pub(crate) async fn run(args: SeriesArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::new(settings, settings.timeout())?;
    let default_range = || TimeRange { start: time::now() - DEFAULT_RANGE_MS, end: 0 };
    let request = SeriesRequest {
        source: args.source,
        time_range: MessageField::some(args.range.range().unwrap_or_else(default_range)),
        step: args.step.map_or(Step::Unspecified, Step::from).into(),
    };
    let called = server.call(&request, is_retryable_query, Client::series);
    let (answer, _) = called.await?;
    match settings.format() {
        Format::Text => print(&answer)?,
        Format::Name => answer.points.iter().try_for_each(|point| output::line(output::time(point.start_ms)))?,
        format => output::object(format, &answer)?,
    }
    Ok(Exit::Success)
}

fn print(answer: &SeriesResponse) -> io::Result<()> {
    let interval = |interval: Option<f64>| interval.map_or_else(String::new, |ms| format!("{ms:.0} ms"));
    let rows = answer
        .points
        .iter()
        .map(|point| vec![output::time(point.start_ms), output::number(point.count), interval(point.avg_interval_ms)]);
    output::table(&["start", "events", "mean interval"], rows, &[1])?;
    output::note(output::freshness(answer.as_of_ms, answer.lag_ms))
}
