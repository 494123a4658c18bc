//! `pingctl ping`

use std::time::{Duration, Instant};

use crate::when::Millis;
use clap::Args;
use futures::{StreamExt, stream};
use ping_proto as proto;
use serde_json::json;
use uuid::Uuid;

use crate::{
    args::Global,
    client::{Server, unsettled},
    exit::Exit,
    failure::Failure,
    output::{self, Format},
    when,
};

/// Pings under way at once.
const AT_ONCE: usize = 32;

/// `pingctl ping`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl ping
  pingctl ping --at 2026-01-31T09:00:00Z --source shop-7 --kind sale --receipt
  pingctl ping --id 018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f    # as often as you like: it is one ping
  pingctl ping -n 1000")]
pub(crate) struct PingArgs {
    /// When it happened: RFC 3339, a date (UTC) or milliseconds since 1970. Default: when the server takes it.
    #[arg(long, value_parser = when::time, allow_negative_numbers = true)]
    at: Option<Millis>,
    /// Its id: any UUID. The same id with the same content is one ping for ever. Default: a new one.
    #[arg(long, conflicts_with = "number")]
    id: Option<Uuid>,
    /// Who reports it.
    #[arg(long, default_value = "")]
    source: String,
    /// What happened. Default: ping.
    #[arg(long, default_value = "")]
    kind: String,
    /// Print a token for each that was new, for `pingctl count --after`.
    #[arg(long)]
    receipt: bool,
    /// How many pings to send, each with an id of its own. For more than 100,000 there is `pingctl load`.
    #[arg(short, long = "count", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    number: u32,
}

/// A ping that is acknowledged.
struct Acknowledged {
    id: Uuid,
    token: Option<String>,
    retries: u32,
}

/// Sends the pings.
pub(crate) async fn run(args: PingArgs, global: &Global) -> anyhow::Result<Exit> {
    let server = Server::new(global, global.timeout());
    let begun = Instant::now();
    let mut sends = stream::iter(0..args.number).map(|_| send(&server, &args)).buffered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(sent) = sends.next().await {
        all.push(sent.map_err(|failure| locate(failure, all.len(), args.number))?);
    }
    match global.format() {
        Format::Text => print(&all, &args, begun.elapsed())?,
        Format::Json => print_json(&all)?,
    }
    Ok(Exit::Done)
}

async fn send(server: &Server, args: &PingArgs) -> Result<Acknowledged, Failure> {
    let id = args.id.unwrap_or_else(Uuid::now_v7);
    let request = proto::PingRequest {
        timestamp_ms: args.at.unwrap_or(0),
        event_id: id.to_string(),
        source: args.source.clone(),
        kind: args.kind.clone(),
        receipt: args.receipt,
    };
    let sent = server.ask(&request, unsettled, async |mut client, request| client.ping(request).await).await;
    let (answer, retries) = sent.map_err(|failure| advise(failure, id))?;
    Ok(Acknowledged { id, token: answer.token, retries })
}

/// Of many, says which.
fn locate(failure: Failure, before: usize, number: u32) -> Failure {
    if number == 1 {
        return failure;
    }
    Failure {
        what: format!("{} (ping {} of {number}; those before are acknowledged)", failure.what, before + 1),
        ..failure
    }
}

/// The id makes it safe to repeat the ping.
fn advise(failure: Failure, id: Uuid) -> Failure {
    if failure.exit != Exit::Unavailable {
        return failure;
    }
    let safe = format!("repeating it with --id {id} can't count it twice");
    let fix = failure.fix.map_or_else(|| safe.clone(), |fix| format!("{fix}; {safe}"));
    Failure { fix: Some(fix), ..failure }
}

fn print(all: &[Acknowledged], args: &PingArgs, took: Duration) -> std::io::Result<()> {
    let took = took.as_secs_f64() * 1000.0;
    if args.receipt || all.len() == 1 {
        for Acknowledged { id, token, .. } in all {
            output::line(match token {
                Some(token) => format!("{id}  token {token}"),
                None if args.receipt => format!("{id}  acknowledged before"),
                None => format!("{id}  acknowledged in {took:.1} ms"),
            })?;
        }
    }
    if all.len() > 1 {
        output::line(format!("{} acknowledged in {took:.0} ms", output::pings(i64::from(args.number))))?;
    }
    Ok(())
}

fn print_json(all: &[Acknowledged]) -> std::io::Result<()> {
    let pings: Vec<_> = all.iter().map(|ping| json!({ "event_id": ping.id, "token": ping.token })).collect();
    let retries: u32 = all.iter().map(|ping| ping.retries).sum();
    output::line(json!({ "acknowledged": all.len(), "retries": retries, "pings": pings }))
}
