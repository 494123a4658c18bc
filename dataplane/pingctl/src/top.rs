//! `pingctl top`

use clap::Args;
use ping_client::Client;
use ping_proto::{TimeRange, TopSourcesRequest};

use crate::{
    client::{Server, is_retryable_query},
    exit::Exit,
    output::{self, Format},
    settings::Settings,
    time::{Millis, RangeArgs},
};

/// The server counts sources in windows of five minutes.
const WINDOW_MS: Millis = 300_000;

/// Arguments of `pingctl top`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl top
  pingctl top -n 3 --since 1h
  pingctl top -o name | xargs -n 1 pingctl status
  pingctl top --from 2026-01-01 --to 2026-02-01")]
pub(crate) struct TopArgs {
    /// Number of sources to show.
    #[arg(short, long = "limit", default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    number: i32,
    #[command(flatten)]
    range: RangeArgs,
}

/// Shows the sources with the most events.
pub(crate) async fn run(args: TopArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::new(settings, settings.timeout())?;
    let request = TopSourcesRequest { time_range: args.range.range().map(widen).into(), limit: args.number };
    let called = server.call(&request, is_retryable_query, Client::top_sources);
    let (answer, _) = called.await?;
    match settings.format() {
        Format::Text => {
            let rows = answer.sources.iter().map(|source| vec![source.source.clone(), output::number(source.count)]);
            output::table(&["source", "events"], rows, &[1])?;
            output::note(output::freshness(answer.as_of_ms, answer.lag_ms))?;
        }
        Format::Name => answer.sources.iter().try_for_each(|source| output::line(&source.source))?,
        format => output::object(format, &answer)?,
    }
    Ok(Exit::Success)
}

/// Widens a range to whole windows.
fn widen(range: TimeRange) -> TimeRange {
    TimeRange {
        start: range.start - range.start.rem_euclid(WINDOW_MS),
        end: range.end + (-range.end).rem_euclid(WINDOW_MS),
    }
}
