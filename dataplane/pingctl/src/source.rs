//! `pingctl source`

use std::io;

use clap::Args;
use ping_client::Client;
use ping_proto::{SourceStatsRequest, SourceStatsResponse};

use crate::{
    client::{Server, is_retryable_query},
    exit::Exit,
    output::{self, Format, grouped},
    settings::Settings,
};

/// Arguments of `pingctl source`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingctl source example.com")]
pub(crate) struct SourceArgs {
    /// Name of the source: a client, a domain, an address, …
    source: String,
}

/// Shows statistics for one source.
pub(crate) async fn run(args: SourceArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::new(settings, settings.timeout())?;
    let request = SourceStatsRequest { source: args.source };
    let called = server.call(&request, is_retryable_query, Client::source_stats);
    let (stats, _) = called.await?;
    match settings.format() {
        Format::Text => print(&stats)?,
        Format::Name if stats.count > 0 => output::line(&stats.source)?,
        Format::Name => {}
        format => output::object(format, &stats)?,
    }
    Ok(Exit::Success)
}

fn print(stats: &SourceStatsResponse) -> io::Result<()> {
    let (Some(first), Some(last)) = (stats.first_seen_ms, stats.last_seen_ms) else {
        output::line(format!("no events from {}", stats.source))?;
        return output::note(output::freshness(stats.as_of_ms, stats.lag_ms));
    };
    let (count, recent) = (output::events(stats.count), grouped(stats.last_24h));
    output::line(format!("{}: {count}, {recent} in the last 24 hours", stats.source))?;
    output::line(format!("first seen {}, last seen {}", output::time(first), output::time(last)))?;
    let rows = stats.kinds.iter().map(|kind| {
        vec![
            kind.kind.clone(),
            output::number(kind.count),
            output::time(kind.first_seen_ms),
            output::time(kind.last_seen_ms),
        ]
    });
    output::table(&["kind", "events", "first seen", "last seen"], rows, &[1])?;
    output::note(output::freshness(stats.as_of_ms, stats.lag_ms))
}
