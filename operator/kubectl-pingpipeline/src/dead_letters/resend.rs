//! `kubectl pingpipeline dead-letters resend`

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use futures::{StreamExt, stream};
use ping_api::roles::ingest_role;
use ping_proto::{DeadLetter, PingRequest, PingResponse};
use serde::Serialize;
use serde_json::Value;

use super::find::{FilterArguments, TIMEOUT, find, find_pipeline};
use crate::{
    caller::{CallError, Caller, is_final},
    cluster::ConnectionArgs,
    output::{Format, printable},
};

/// Calls in flight, each over a forwarded port.
const MAX_CONCURRENT_CALLS: usize = 8;

#[derive(Args)]
pub(super) struct ResendArguments {
    /// Name of the pipeline.
    name: String,
    /// Place of a dead letter, as `dead-letters` shows it; repeatable.
    #[arg(long = "place", value_name = "TOPIC/PARTITION/OFFSET")]
    places: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Most events to record. If there are more, nothing is recorded.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Do not ask for confirmation.
    #[arg(short, long)]
    yes: bool,
}

/// An event that was not recorded.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    place: String,
    event_id: String,
    message: String,
}

/// What became of the events.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// Events that are new.
    recorded: usize,
    /// Events that had been recorded before.
    already_recorded: usize,
    refused: Vec<Refused>,
}

/// Finds the events, asks, and records them. Returns whether all were recorded.
pub(super) async fn run(
    arguments: &ResendArguments,
    connection: &ConnectionArgs,
    format: Format,
) -> anyhow::Result<bool> {
    let ResendArguments { name, places, filter, limit, yes } = arguments;
    ensure!(
        !places.is_empty() || !filter.reason.is_empty(),
        "which dead letters to resend is not specified; add --place or --reason: `kubectl pingpipeline dead-letters {name}` lists both"
    );
    let cluster = connection.connect().await?;
    let pipeline = find_pipeline(&cluster, name).await?;
    let is_wanted = |letter: &DeadLetter| places.is_empty() || places.contains(&letter.place);
    // One more shows that there are too many.
    let limit = *limit as usize;
    let found = find(&cluster, &pipeline, filter, limit + 1, is_wanted).await?.letters;
    if let Some(missing) = places.iter().find(|place| found.iter().all(|letter| letter.place != **place)) {
        bail!("no dead letter has the place {missing}, or --reason and --since do not match it");
    }
    ensure!(found.len() <= limit, "more than {limit} dead letters match; raise --limit, or narrow them");
    let (events, refused) = select(found);
    if !yes && !events.is_empty() && !confirm(events.len(), name)? {
        println!("nothing was recorded");
        return Ok(true);
    }
    let caller = Caller::connect(&cluster, &pipeline, ingest_role(&pipeline.spec.server), "api", TIMEOUT).await?;
    let outcome = record(&caller, events, Outcome { refused, ..Outcome::default() }).await?;
    match format {
        Format::Json => println!("{}", serde_json::to_string(&outcome)?),
        Format::Text => println!("{}", text(&outcome)),
    }
    Ok(outcome.refused.is_empty())
}

/// Each event once, with its place, although it may have several dead letters; and what cannot be recorded. Pure.
fn select(found: Vec<DeadLetter>) -> (Vec<(String, PingRequest)>, Vec<Refused>) {
    let (mut events, mut refused, mut known) = (Vec::new(), Vec::new(), BTreeSet::new());
    for DeadLetter { place, event, reason, .. } in found {
        let message = match event.into_option() {
            None => format!("it is not an event of a server: {reason}"),
            Some(event) if event.event_id.is_empty() => "the event has no id, so that it could count twice".to_owned(),
            Some(event) => {
                if known.insert(event.event_id.clone()) {
                    // Only a new event has a token.
                    events.push((place, PingRequest { receipt: true, ..event }));
                }
                continue;
            }
        };
        refused.push(Refused { place, event_id: String::new(), message });
    }
    (events, refused)
}

/// Asks whether to record them.
fn confirm(number: usize, name: &str) -> anyhow::Result<bool> {
    ensure!(
        io::stdin().is_terminal(),
        "{number} events would be recorded, and no one can confirm it: standard input is not a terminal; add --yes"
    );
    eprint!("Record {number} events in {name}? One that is already recorded does not count again. [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Records `events`, and adds to `outcome` what became of them.
async fn record(caller: &Caller, events: Vec<(String, PingRequest)>, mut outcome: Outcome) -> anyhow::Result<Outcome> {
    let mut calls = stream::iter(events)
        .map(|(place, ping)| async move {
            let answer = caller.call_with_retries::<PingResponse>("ping.v1.PingService/Ping", &ping).await;
            (place, ping.event_id, answer)
        })
        .buffer_unordered(MAX_CONCURRENT_CALLS);
    while let Some((place, event_id, answer)) = calls.next().await {
        match answer {
            Ok(answer) if answer.token.is_some() => outcome.recorded += 1,
            Ok(_) => outcome.already_recorded += 1,
            Err(CallError::Status(code, message)) if code.as_u16() != 401 && is_final(code) => {
                outcome.refused.push(Refused { place, event_id, message: message_of(message) });
            }
            Err(error) => {
                let recorded = outcome.recorded + outcome.already_recorded;
                return Err(error)
                    .with_context(|| format!("{recorded} events are recorded; the command is safe to repeat"));
            }
        }
    }
    Ok(outcome)
}

/// The message of an error of the API; otherwise all of the answer.
fn message_of(answer: String) -> String {
    let error = serde_json::from_str::<Value>(&answer).unwrap_or_default();
    error["message"].as_str().map_or(answer, str::to_owned)
}

fn text(outcome: &Outcome) -> String {
    let Outcome { recorded, already_recorded, refused } = outcome;
    let mut lines: Vec<_> = refused
        .iter()
        .map(|Refused { place, event_id, message }| {
            let id = if event_id.is_empty() { "no event" } else { event_id };
            printable(&format!("refused: {place} ({id}): {message}"))
        })
        .collect();
    lines.push(format!("recorded: {recorded}; recorded before: {already_recorded}; refused: {}", refused.len()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_selected_once_and_a_refusal_says_why() {
        let letter = |place: &str, event_id: Option<&str>| {
            let event = event_id.map(|id| PingRequest { event_id: id.into(), ..PingRequest::default() });
            DeadLetter { place: place.into(), event: event.into(), ..DeadLetter::default() }
        };
        let found = vec![
            letter("a/0/1", Some("x")),
            letter("a/0/2", None),
            letter("a/0/3", Some("")),
            letter("a/0/4", Some("x")),
        ];
        let (events, refused) = select(found);
        assert!(events.len() == 1 && events[0].0 == "a/0/1" && events[0].1.receipt, "{events:?}");
        assert_eq!(refused.iter().map(|refused| &*refused.place).collect::<Vec<_>>(), ["a/0/2", "a/0/3"]);
        assert_eq!(message_of(r#"{"code": "x", "message": "send less"}"#.into()), "send less");
        assert_eq!(message_of("no JSON".into()), "no JSON");
        let outcome = Outcome { recorded: 1, already_recorded: 2, refused };
        assert!(text(&outcome).ends_with("recorded: 1; recorded before: 2; refused: 2"), "{}", text(&outcome));
    }
}
