//! `pingctl ping`

use std::{
    io,
    time::{Duration, Instant},
};

use clap::Args;
use futures::{StreamExt, stream};
use ping_client::Client;
use ping_proto::{PingRequest, PingResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    client::{Server, is_retryable},
    exit::Exit,
    failure::Failure,
    output::{self, Format},
    settings::Settings,
    time::{self, Millis},
};

/// Calls in flight with `--count`.
const MAX_CONCURRENT_CALLS: usize = 32;

/// Arguments of `pingctl ping`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl ping
  pingctl ping --at 2026-01-31T09:00:00Z --source shop-7 --kind sale --receipt
  pingctl ping --id 018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f    # safe to repeat: counted once
  pingctl ping -n 1000")]
pub(crate) struct PingArgs {
    /// When it happened: RFC 3339, a date (UTC) or milliseconds since 1970. Default: when the server receives it.
    #[arg(long, value_name = "TIME", value_parser = time::parse_event_time, allow_negative_numbers = true)]
    at: Option<Millis>,
    /// Idempotency key (UUID): the same id with the same content is counted once. Default: a new one.
    #[arg(long, value_name = "UUID", value_parser = parse_uuid, conflicts_with = "number")]
    id: Option<Uuid>,
    /// Source of the event.
    #[arg(long, default_value = "", hide_default_value = true)]
    source: String,
    /// Kind of event. Default: ping.
    #[arg(long, default_value = "", hide_default_value = true)]
    kind: String,
    /// Print the token of each new event, for `pingctl count --after`.
    #[arg(long)]
    receipt: bool,
    /// Number of events to send, each with its own id. To send more than 100,000, use `pingctl load`.
    #[arg(short, long = "count", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    number: u32,
}

fn parse_uuid(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "not a UUID; write one like 018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f")
}

/// An acknowledged event.
struct Acknowledged {
    id: Uuid,
    token: Option<String>,
    retries: u32,
}

/// Sends the events.
pub(crate) async fn run(args: PingArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::new(settings, settings.timeout())?;
    let started = Instant::now();
    let mut sends = stream::iter(0..args.number).map(|_| send(&server, &args)).buffered(MAX_CONCURRENT_CALLS);
    let mut acknowledged = Vec::new();
    while let Some(sent) = sends.next().await {
        acknowledged.push(sent.map_err(|failure| locate(failure, acknowledged.len(), args.number))?);
    }
    match settings.format() {
        Format::Text => print(&acknowledged, &args, started.elapsed())?,
        Format::Name => acknowledged.iter().try_for_each(|ping| output::line(ping.id))?,
        format => output::object(format, &object(&acknowledged))?,
    }
    Ok(Exit::Success)
}

async fn send(server: &Server, args: &PingArgs) -> Result<Acknowledged, Failure> {
    let id = args.id.unwrap_or_else(Uuid::now_v7);
    let request = PingRequest {
        timestamp_ms: args.at.unwrap_or(0),
        event_id: id.to_string(),
        source: args.source.clone(),
        kind: args.kind.clone(),
        receipt: args.receipt,
    };
    let sent = server.call(&request, is_retryable, Client::ping);
    let (answer, retries) = sent.await.map_err(|failure| suggest_same_id(failure, id))?;
    Ok(Acknowledged { id, token: answer.token, retries })
}

/// Adds which of several events failed.
fn locate(failure: Failure, acknowledged: usize, number: u32) -> Failure {
    if number == 1 {
        return failure;
    }
    let what = format!("{} (event {} of {number}; the earlier ones are acknowledged)", failure.what, acknowledged + 1);
    Failure { what, ..failure }
}

/// Adds that the event can be repeated safely with its id.
fn suggest_same_id(failure: Failure, id: Uuid) -> Failure {
    if failure.exit != Exit::Unavailable {
        return failure;
    }
    let same_id = format!("with --id {id} a repeated event is counted once");
    let fix = failure.fix.map_or_else(|| same_id.clone(), |fix| format!("{fix}; {same_id}"));
    Failure { fix: Some(fix), ..failure }
}

fn print(acknowledged: &[Acknowledged], args: &PingArgs, elapsed: Duration) -> io::Result<()> {
    if args.receipt || args.number == 1 {
        for Acknowledged { id, token, .. } in acknowledged {
            output::line(match token {
                Some(token) => format!("{id}  token {token}"),
                None if args.receipt => format!("{id}  already acknowledged"),
                None => format!("{id}  acknowledged in {elapsed:.1?}"),
            })?;
        }
    }
    if args.number > 1 {
        output::line(format!("{} acknowledged in {elapsed:.1?}", output::events(i64::from(args.number))))?;
    }
    Ok(())
}

/// Each event as the API acknowledges it, always with its id.
fn object(acknowledged: &[Acknowledged]) -> Value {
    let pings = acknowledged
        .iter()
        .map(|Acknowledged { id, token, .. }| PingResponse { event_id: Some(id.to_string()), token: token.clone() });
    let retries: u32 = acknowledged.iter().map(|ping| ping.retries).sum();
    json!({ "acknowledged": acknowledged.len(), "retries": retries, "pings": pings.collect::<Vec<_>>() })
}
