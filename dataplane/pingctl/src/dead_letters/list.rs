//! `pingctl dead-letters` without a subcommand.

use ping_proto::DeadLetter;

use super::find::{FilterArgs, find};
use crate::{
    exit::Exit,
    output::{self, Format},
    settings::Settings,
};

/// Prints the first `limit` dead letters that match `filter`.
pub(super) async fn run(filter: &FilterArgs, limit: u32, settings: &Settings) -> anyhow::Result<Exit> {
    let found = find(filter, limit as usize, |_| true, settings).await?;
    match settings.format() {
        Format::Text => {
            let header = ["sent", "reason", "place", "event id", "source", "kind"];
            output::table(&header, found.letters.iter().map(row), &[])?;
            output::note(match found.next_page_token.is_empty() {
                true => format!("all {} that match", found.letters.len()),
                false => "there may be more: raise --limit, or use --since".to_owned(),
            })?;
        }
        format => output::object(format, &found)?,
    }
    Ok(Exit::Success)
}

fn row(letter: &DeadLetter) -> Vec<String> {
    let sent = letter.sent_ms.map_or_else(|| "-".to_owned(), output::time);
    let [id, source, kind] = match letter.event.as_option() {
        None => [format!("none: {} bytes", letter.value.len()), String::new(), String::new()],
        Some(event) => {
            let kind = if event.kind.is_empty() { "ping" } else { &event.kind };
            [event.event_id.clone(), output::printable(&event.source), output::printable(kind)]
        }
    };
    vec![sent, output::printable(&letter.reason), output::printable(&letter.place), id, source, kind]
}

#[cfg(test)]
mod tests {
    use ping_proto::PingRequest;

    use super::*;

    #[test]
    fn a_row_has_the_event_or_says_that_there_is_none() {
        let letter = DeadLetter {
            place: "pings/0/42".into(),
            sent_ms: Some(1_728_926_331_000),
            reason: "because".into(),
            value: vec![1, 2],
            ..DeadLetter::default()
        };
        let sent = "2024-10-14T17:18:51.000Z";
        assert_eq!(row(&letter), [sent, "because", "pings/0/42", "none: 2 bytes", "", ""]);
        let event = PingRequest { event_id: "an-id".into(), source: "a\u{1b}[31m\tb".into(), ..PingRequest::default() };
        let letter = DeadLetter { event: event.into(), ..letter };
        assert_eq!(row(&letter)[3..], ["an-id", "a\\u{1b}[31m\\tb", "ping"]);
    }
}
