//! `pingctl count`

use clap::Args;
use ping_proto::{PingCountRequest, PingCountResponse, Store};

use crate::{
    client::Server,
    exit::Exit,
    failure::Failure,
    output::{self, Format},
    settings::Settings,
    time::RangeArgs,
};

/// Arguments of `pingctl count`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl count
  pingctl count --since 1h
  pingctl count --from 2026-01-01 --to 2026-02-01      # January, UTC; --from is inclusive, --to exclusive
  pingctl count --strong                               # straight from the database
  pingctl count --after \"$(pingctl ping --receipt -o json | jq -r '.pings[0].token')\"
  pingctl count -o json | jq -r .pingCount             # the API's JSON: numbers of 64 bits are strings")]
pub(crate) struct CountArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// Read from the database, not the cache: includes every event acknowledged so far.
    #[arg(long)]
    strong: bool,
    /// Wait until the event with this token is counted (see `pingctl ping --receipt`); exit 1 if it takes too long.
    #[arg(long, value_name = "TOKEN")]
    after: Option<String>,
}

/// Queries the count once.
pub(crate) async fn run(args: CountArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::new(settings, settings.timeout())?;
    let waits = args.after.is_some();
    let request = PingCountRequest {
        time_range: args.range.range().into(),
        strong: args.strong,
        after: args.after.unwrap_or_default(),
    };
    let answer = server.ping_count(&request).await.map_err(|failure| {
        let not_counted_yet = waits && failure.code == "deadline_exceeded";
        if not_counted_yet { Failure { exit: Exit::CheckFailed, ..failure } } else { failure }
    })?;
    match settings.format() {
        Format::Text => output::line(text(&answer))?,
        format => output::object(format, &answer)?,
    }
    Ok(Exit::Success)
}

fn text(answer: &PingCountResponse) -> String {
    let (count, as_of) = (output::events(answer.ping_count), output::time(answer.as_of_ms));
    let lag = output::grouped(answer.lag_ms);
    let exact = if answer.exact { "exact" } else { "approximate" };
    let store = match answer.store.as_known() {
        Some(Store::Cache) => format!("lag {lag} ms, from the cache"),
        Some(Store::Database) => "from the database".to_owned(),
        _ => format!("lag {lag} ms"),
    };
    format!("{count}  {exact} as of {as_of} ({store})")
}
