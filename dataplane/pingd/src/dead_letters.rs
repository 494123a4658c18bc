//! `pingd dead-letters`: prints the records of the dead-letter topic, one JSON object per line.

use std::io::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use ping_kafka::KafkaDeadLetters;
use ping_ports::{DeadLetterReader, LetterQuery, StoredLetter};
use serde_json::{Value, json};

use crate::config::DeadLettersArgs;

/// Records read at once.
const PAGE: usize = 1_000;

pub(crate) async fn run(args: DeadLettersArgs) -> anyhow::Result<()> {
    let reader = KafkaDeadLetters::new(args.kafka.settings());
    let mut query = LetterQuery { reason: String::new(), since: None, limit: PAGE, from: None };
    loop {
        let page = reader.page(query.clone()).await?;
        match print(&page.letters) {
            // The reader of the output has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            printed => printed?,
        }
        if page.next.is_none() {
            return Ok(());
        }
        query.from = page.next;
    }
}

fn print(letters: &[StoredLetter]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    letters.iter().try_for_each(|letter| writeln!(out, "{}", json(letter)))
}

/// The event has the names of the API: it is a request for `PingService.Ping`, which records it again.
fn json(letter: &StoredLetter) -> Value {
    let StoredLetter { sent, reason, place, content } = letter;
    let mut json = json!({ "reason": reason, "place": place, "sentMs": sent.map(|sent| sent.to_string()) });
    match content {
        Ok(event) => {
            let timestamp = event.timestamp_ms.to_string();
            let (source, kind) = (&*event.source, &*event.kind);
            json["event"] =
                json!({ "eventId": event.id.to_string(), "source": source, "kind": kind, "timestampMs": timestamp });
        }
        Err(value) => json["value"] = BASE64_STANDARD.encode(value).into(),
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_names_of_the_api_and_other_values_are_encoded() {
        let letter =
            |content| StoredLetter { sent: Some(7), reason: "because".into(), place: "pings/0/9".into(), content };
        let expected = json!({ "reason": "because", "place": "pings/0/9", "sentMs": "7", "value": "AQI=" });
        assert_eq!(json(&letter(Err(vec![1, 2]))), expected);
    }
}
