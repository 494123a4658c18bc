//! `pingctl source`, `pingctl status`, `pingctl top` and `pingctl series`

use crate::when::Millis;
use crate::when::now;
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, TableComponent, presets};
use ping_proto::{GetStatusRequest, SeriesRequest, SourceStatsRequest, Step, TimeRange, TopSourcesRequest};
use serde_json::json;

use crate::{
    args::Global,
    client::{Server, away},
    exit::Exit,
    output::{self, Format, grouped},
    when::RangeArgs,
};

/// `pingctl source` and `pingctl status`
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Its name: a client, a domain, an address, …
    source: String,
}

/// What is known of one source.
pub(crate) async fn source(args: SourceArgs, global: &Global) -> anyhow::Result<Exit> {
    let server = Server::new(global, global.timeout());
    let request = SourceStatsRequest { source: args.source };
    let asked =
        server.ask_sources(&request, away, async |mut client, request| client.source_stats(request).await).await;
    let (stats, _) = asked?;
    if global.format() == Format::Json {
        let kinds = stats.kinds.iter().map(|kind| {
            json!({
                "kind": kind.kind,
                "count": kind.count,
                "first_seen_ms": kind.first_seen_ms,
                "last_seen_ms": kind.last_seen_ms,
            })
        });
        output::line(json!({
            "source": stats.source,
            "count": stats.count,
            "first_seen_ms": stats.first_seen_ms,
            "last_seen_ms": stats.last_seen_ms,
            "last_24h": stats.last_24h,
            "kinds": kinds.collect::<Vec<_>>(),
            "as_of_ms": stats.as_of_ms,
            "lag_ms": stats.lag_ms,
        }))?;
        return Ok(Exit::Done);
    }
    let (Some(first), Some(last)) = (stats.first_seen_ms, stats.last_seen_ms) else {
        output::line(format!("{} was never seen", stats.source))?;
        output::line(fresh(stats.as_of_ms, stats.lag_ms))?;
        return Ok(Exit::Done);
    };
    let (count, recent) = (grouped(stats.count), grouped(stats.last_24h));
    output::line(format!("{}: {count} events, {recent} of them in the last 24 hours", stats.source))?;
    output::line(format!("first seen {}, last seen {}", output::time(first), output::time(last)))?;
    let rows = stats.kinds.iter().map(|kind| {
        vec![kind.kind.clone(), grouped(kind.count), output::time(kind.first_seen_ms), output::time(kind.last_seen_ms)]
    });
    output::line(table(&["kind", "events", "first", "last"], rows))?;
    output::line(fresh(stats.as_of_ms, stats.lag_ms))?;
    Ok(Exit::Done)
}

/// What a source is by the server's rule.
pub(crate) async fn status(args: SourceArgs, global: &Global) -> anyhow::Result<Exit> {
    let server = Server::new(global, global.timeout());
    let request = GetStatusRequest { source: args.source };
    let asked = server.ask_sources(&request, away, async |mut client, request| client.get_status(request).await).await;
    let (answer, _) = asked?;
    match global.format() {
        Format::Text => output::line(&answer.status)?,
        Format::Json => output::line(json!({
            "source": request.source,
            "status": answer.status,
            "final": answer.r#final,
            "negativeEvents": answer.negative_events,
            "positive_events": answer.positive_events,
            "as_of_ms": answer.as_of_ms,
            "lag_ms": answer.lag_ms,
        }))?,
    }
    Ok(Exit::Done)
}

/// `pingctl top`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl top
  pingctl top -n 3 --since 1h
  pingctl top --from 2026-01-01 --to 2026-02-01")]
pub(crate) struct TopArgs {
    /// How many sources.
    #[arg(short, long = "limit", default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    number: i32,
    #[command(flatten)]
    range: RangeArgs,
}

/// The busiest sources.
pub(crate) async fn top(args: TopArgs, global: &Global) -> anyhow::Result<Exit> {
    let server = Server::new(global, global.timeout());
    // What is asked for in other words than windows is widened to them.
    let time_range = args.range.range().map(|range| TimeRange {
        start: range.start - range.start.rem_euclid(WINDOW),
        end: range.end + (-range.end).rem_euclid(WINDOW),
    });
    let request = TopSourcesRequest { time_range, limit: args.number };
    let asked = server.ask_sources(&request, away, async |mut client, request| client.top_sources(request).await).await;
    let (answer, _) = asked?;
    match global.format() {
        Format::Json => {
            let sources = answer.sources.iter().map(|source| json!({"source": source.source, "count": source.count}));
            let sources = sources.collect::<Vec<_>>();
            output::line(json!({ "sources": sources, "as_of_ms": answer.as_of_ms, "lag_ms": answer.lag_ms }))?;
        }
        Format::Text => {
            let rows = answer.sources.iter().map(|source| vec![source.source.clone(), grouped(source.count)]);
            output::line(table(&["source", "events"], rows))?;
            output::line(fresh(answer.as_of_ms, answer.lag_ms))?;
        }
    }
    Ok(Exit::Done)
}

/// `pingctl series`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl series --since 1h                                # of everything, minute by minute
  pingctl series example.com --since 1d --step hour
  pingctl series --from 2026-01-01 --to 2026-02-01 --step day")]
pub(crate) struct SeriesArgs {
    /// Whose events. Default: everybody's.
    #[arg(default_value = "")]
    source: String,
    /// Width of a step. Default: a minute for everything, five minutes for a source.
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

/// Counts over time.
pub(crate) async fn series(args: SeriesArgs, global: &Global) -> anyhow::Result<Exit> {
    let server = Server::new(global, global.timeout());
    let step = match args.step {
        None => Step::Unspecified,
        Some(StepName::Minute) => Step::Minute,
        Some(StepName::FiveMinutes) => Step::FiveMinutes,
        Some(StepName::Hour) => Step::Hour,
        Some(StepName::Day) => Step::Day,
    };
    let hour = || TimeRange { start: now() - HOUR, end: 0 };
    let time_range = Some(args.range.range().unwrap_or_else(hour));
    let request = SeriesRequest { source: args.source, time_range, step: step.into() };
    let asked = server.ask_sources(&request, away, async |mut client, request| client.series(request).await).await;
    let (answer, _) = asked?;
    match global.format() {
        Format::Json => {
            let points = answer.points.iter().map(|point| {
                json!({
                    "start_ms": point.start_ms,
                    "count": point.count,
                    "avg_interval_ms": point.avg_interval_ms,
                    "closed": point.closed,
                })
            });
            let points = points.collect::<Vec<_>>();
            output::line(json!({ "points": points, "as_of_ms": answer.as_of_ms, "lag_ms": answer.lag_ms }))?;
        }
        Format::Text => {
            let interval = |interval: Option<f64>| interval.map_or_else(String::new, |ms| format!("{ms:.0} ms"));
            let rows = answer
                .points
                .iter()
                .map(|point| vec![output::time(point.start_ms), grouped(point.count), interval(point.avg_interval_ms)]);
            output::line(table(&["from", "events", "interval"], rows))?;
            output::line(fresh(answer.as_of_ms, answer.lag_ms))?;
        }
    }
    Ok(Exit::Done)
}

/// How fresh an answer is.
fn fresh(as_of: Millis, lag: Millis) -> String {
    if as_of == 0 {
        return "no processor has counted anything yet".to_owned();
    }
    format!("exact as of {} (lag {} ms)", output::time(as_of), grouped(lag))
}

/// Milliseconds in the window that ranges of sources are made of.
const WINDOW: Millis = 300_000;
const HOUR: Millis = 3_600_000;

/// Rows under a header, numbers to the right.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.add_rows(rows);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
