//! `pingctl count`

use clap::Args;
use ping_proto::{PingCountRequest, PingCountResponse, Store};
use serde_json::{Value, json};

use crate::{
    args::Global,
    client::{Server, away},
    exit::Exit,
    failure::Failure,
    output::{self, Format},
    when::RangeArgs,
};

/// `pingctl count`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl count
  pingctl count --since 1h
  pingctl count --from 2026-01-01 --to 2026-02-01      # January, UTC; from is in, to is not
  pingctl count --strong                               # straight from the database
  pingctl count --after \"$(pingctl ping --receipt -o json | jq -r '.pings[0].token')\"")]
pub(crate) struct CountArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// Ask the database, not the cache: every ping acknowledged before is in the number.
    #[arg(long)]
    strong: bool,
    /// Wait until the ping with this token (see `pingctl ping --receipt`) is in the number; exit 1 when it takes too long.
    #[arg(long, value_name = "TOKEN")]
    after: Option<String>,
}

/// Asks once.
pub(crate) async fn run(args: CountArgs, global: &Global) -> anyhow::Result<Exit> {
    let server = Server::new(global, global.timeout());
    let waits = args.after.is_some();
    let request =
        PingCountRequest { time_range: args.range.range(), strong: args.strong, after: args.after.unwrap_or_default() };
    let answer = ask(&server, &request).await.map_err(|failure| {
        let not_yet = waits && failure.code == "deadline_exceeded";
        if not_yet { Failure { exit: Exit::No, ..failure } } else { failure }
    })?;
    match global.format() {
        Format::Text => output::line(text(&answer))?,
        Format::Json => output::line(to_json(&answer))?,
    }
    Ok(Exit::Done)
}

/// Asks `server` for a count.
pub(crate) async fn ask(server: &Server, request: &PingCountRequest) -> Result<PingCountResponse, Failure> {
    let asked = server.ask(request, away, async |mut client, request| client.ping_count(request).await).await;
    asked.map(|(answer, _)| answer)
}

/// The answer as an object.
pub(crate) fn to_json(answer: &PingCountResponse) -> Value {
    json!({
        "ping_count": answer.ping_count,
        "as_of": output::time(answer.as_of_ms),
        "as_of_ms": answer.as_of_ms,
        "lag_ms": answer.lag_ms,
        "exact": answer.exact,
        "last_audit_ms": answer.last_audit_ms,
        "store": match answer.store() {
            Store::Cache => "cache",
            Store::Database => "database",
            Store::Unspecified => "unknown",
        },
    })
}

fn text(answer: &PingCountResponse) -> String {
    let (count, as_of, lag) = (output::pings(answer.ping_count), output::time(answer.as_of_ms), answer.lag_ms);
    let exact = if answer.exact { "exact" } else { "about," };
    let from = match answer.store() {
        Store::Cache => format!("lag {} ms, from the cache", output::grouped(lag)),
        Store::Database => "from the database".to_owned(),
        Store::Unspecified => format!("lag {} ms", output::grouped(lag)),
    };
    format!("{count}  {exact} as of {as_of} ({from})")
}
