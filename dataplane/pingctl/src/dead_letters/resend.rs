//! `pingctl dead-letters resend`

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
};

use clap::Args;
use futures::{StreamExt, stream};
use ping_client::Client;
use ping_proto::{DeadLetter, PingRequest};
use serde::Serialize;

use super::find::{FilterArgs, find};
use crate::{
    client::{Server, is_retryable},
    exit::Exit,
    failure::Failure,
    output::{self, Format, events},
    settings::Settings,
};

/// Calls in flight.
const MAX_CONCURRENT_CALLS: usize = 32;

/// Arguments of `pingctl dead-letters resend`.
#[derive(Debug, Args)]
#[command(
    after_help = "Look at the events first: `pingctl dead-letters` with the same options. The caller needs the permissions `admin`, for all sources and
kinds, and `ingest`, for those of the events.

Examples:
  pingctl dead-letters resend --place pings/0/42 --place pings/3/7
  pingctl dead-letters resend --since 1h --reason restored --yes"
)]
pub(super) struct ResendArgs {
    /// Place of a dead letter, as `pingctl dead-letters` shows it; repeatable.
    #[arg(long = "place", value_name = "TOPIC/PARTITION/OFFSET", value_parser = parse_place)]
    places: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Most events to record. If there are more, nothing is recorded.
    #[arg(short = 'n', long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Do not ask for confirmation.
    #[arg(short, long)]
    yes: bool,
}

fn parse_place(text: &str) -> Result<String, &'static str> {
    let mut parts = text.rsplitn(3, '/');
    let are_numbers = parts.by_ref().take(2).all(|number| number.parse::<u64>().is_ok());
    let has_topic = parts.next().is_some_and(|topic| !topic.is_empty());
    if are_numbers && has_topic { Ok(text.to_owned()) } else { Err("not a place; write one like pings/0/42") }
}

/// An event that was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    place: String,
    event_id: String,
    /// As the API names it.
    code: &'static str,
    message: String,
}

/// What became of the events.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// Events that are new.
    recorded: i64,
    /// Events that had been recorded before.
    already_recorded: i64,
    refused: Vec<Refused>,
}

/// Finds the events, asks, and records them.
pub(super) async fn run(args: ResendArgs, settings: &Settings) -> anyhow::Result<Exit> {
    if args.places.is_empty() && args.filter.reason.is_empty() {
        let fix = "add --place TOPIC/PARTITION/OFFSET, or --reason TEXT; `pingctl dead-letters` lists both";
        return Err(Failure::usage("which dead letters to resend is not specified", fix).into());
    }
    let is_wanted = |letter: &DeadLetter| args.places.is_empty() || args.places.contains(&letter.place);
    // One more shows that there are too many.
    let limit = args.limit as usize;
    let found = find(&args.filter, limit + 1, is_wanted, settings).await?.letters;
    check(&found, &args.places, limit)?;
    let Selection { events: selected, refused } = select(found);
    if !args.yes && !selected.is_empty() && !confirm(selected.len(), settings)? {
        output::line("nothing was recorded")?;
        return Ok(Exit::Success);
    }
    let outcome = record(selected, Outcome { refused, ..Outcome::default() }, settings).await?;
    match settings.format() {
        Format::Text => print(&outcome)?,
        format => output::object(format, &outcome)?,
    }
    Ok(if outcome.refused.is_empty() { Exit::Success } else { Exit::Refused })
}

/// Refuses before anything is recorded if not all that was asked for can be.
fn check(found: &[DeadLetter], places: &[String], limit: usize) -> Result<(), Failure> {
    if let Some(missing) = places.iter().find(|place| found.iter().all(|letter| letter.place != **place)) {
        let what = format!("there is no dead letter with the place {missing}");
        return Err(Failure::usage(
            what,
            "list them: pingctl dead-letters; with --reason and --since, it must match them",
        ));
    }
    if found.len() > limit {
        let what = format!("more than {limit} dead letters match");
        return Err(Failure::usage(what, "raise --limit, or narrow them with --reason, --since or --place"));
    }
    Ok(())
}

/// What to record, each with its place, and what cannot be.
#[derive(Debug, Default)]
struct Selection {
    events: Vec<(String, PingRequest)>,
    refused: Vec<Refused>,
}

/// Each event once, although it may have several dead letters. Pure.
fn select(found: Vec<DeadLetter>) -> Selection {
    let (mut selection, mut known) = (Selection::default(), BTreeSet::new());
    for DeadLetter { place, event, reason, .. } in found {
        let refuse = |message: String| Refused {
            place: place.clone(),
            event_id: String::new(),
            code: "invalid_argument",
            message,
        };
        match event.into_option() {
            None => selection.refused.push(refuse(format!("it is not an event of a server: {reason}"))),
            Some(event) if event.event_id.is_empty() => {
                selection.refused.push(refuse("the event has no id, so that it could count twice".to_owned()));
            }
            Some(event) if known.insert(event.event_id.clone()) => {
                // Only a new event has a token.
                selection.events.push((place, PingRequest { receipt: true, ..event }));
            }
            Some(_) => {}
        }
    }
    selection
}

/// Asks whether to record them.
fn confirm(number: usize, settings: &Settings) -> anyhow::Result<bool> {
    let number = events(i64::try_from(number)?);
    if !io::stdin().is_terminal() {
        let what = format!("{number} would be recorded, and no one can confirm it: standard input is not a terminal");
        return Err(Failure::usage(what, "add --yes").into());
    }
    eprint!("Record {number} on {}? One that is already recorded does not count again. [y/N] ", settings.addr);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Records `selected`, and adds to `outcome` what became of them.
async fn record(
    selected: Vec<(String, PingRequest)>,
    mut outcome: Outcome,
    settings: &Settings,
) -> Result<Outcome, Failure> {
    let server = &Server::new(settings, settings.timeout())?;
    let mut calls = stream::iter(selected)
        .map(|(place, ping)| async move {
            let answer = server.call(&ping, is_retryable, Client::ping).await;
            (place, ping.event_id, answer)
        })
        .buffer_unordered(MAX_CONCURRENT_CALLS);
    while let Some((place, event_id, answer)) = calls.next().await {
        match answer {
            Ok((answer, _)) if answer.token.is_some() => outcome.recorded += 1,
            Ok(_) => outcome.already_recorded += 1,
            Err(failure) if failure.exit == Exit::Refused && failure.code != "unauthenticated" => {
                let message = failure.cause.unwrap_or(failure.what);
                outcome.refused.push(Refused { place, event_id, code: failure.code, message });
            }
            Err(failure) => {
                let recorded = events(outcome.recorded + outcome.already_recorded);
                let what = format!("{} ({recorded} are recorded; the command is safe to repeat)", failure.what);
                return Err(Failure { what, ..failure });
            }
        }
    }
    Ok(outcome)
}

fn print(outcome: &Outcome) -> io::Result<()> {
    let Outcome { recorded, already_recorded, refused } = outcome;
    for Refused { place, event_id, message, .. } in refused {
        let id = if event_id.is_empty() { "no event" } else { event_id };
        output::line(output::printable(&format!("refused: {place} ({id}): {message}")))?;
    }
    let counts = [*recorded, *already_recorded].map(output::grouped);
    output::line(format!("recorded: {}; recorded before: {}; refused: {}", counts[0], counts[1], refused.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(place: &str, event_id: Option<&str>) -> DeadLetter {
        let event = event_id.map(|id| PingRequest { event_id: id.into(), ..PingRequest::default() });
        DeadLetter { place: place.into(), event: event.into(), reason: "because".into(), ..DeadLetter::default() }
    }

    #[test]
    fn each_event_is_selected_once_and_what_has_no_id_is_refused() {
        let found = vec![
            letter("pings/0/1", Some("a")),
            letter("pings/0/2", None),
            letter("pings/0/3", Some("")),
            letter("pings/0/1", Some("a")),
            letter("pings/0/4", Some("b")),
        ];
        let Selection { events, refused } = select(found);
        let places: Vec<_> =
            events.iter().map(|(place, ping)| (place.as_str(), &*ping.event_id, ping.receipt)).collect();
        assert_eq!(places, [("pings/0/1", "a", true), ("pings/0/4", "b", true)]);
        let messages: Vec<_> = refused.iter().map(|refused| (&*refused.place, &*refused.message)).collect();
        assert_eq!(messages.len(), 2);
        assert!(messages[0].0 == "pings/0/2" && messages[0].1.contains("because"), "{messages:?}");
        assert!(messages[1].0 == "pings/0/3" && messages[1].1.contains("no id"), "{messages:?}");
    }

    #[test]
    fn nothing_is_recorded_if_a_place_is_unknown_or_there_are_too_many() {
        let found = [letter("pings/0/1", Some("a")), letter("pings/0/2", Some("b"))];
        assert!(check(&found, &["pings/0/2".into()], 2).is_ok());
        assert!(check(&found, &["pings/0/9".into()], 2).unwrap_err().what.contains("pings/0/9"));
        assert!(check(&found, &[], 1).unwrap_err().what.contains("more than 1"));
    }

    #[test]
    fn a_place_has_a_topic_a_partition_and_an_offset() {
        assert_eq!(parse_place("my.pings/0/42"), Ok("my.pings/0/42".into()));
        for text in ["pings", "pings/0", "pings/0/x", "/0/1", "pings/-1/0", ""] {
            assert!(parse_place(text).is_err(), "{text}");
        }
    }
}
