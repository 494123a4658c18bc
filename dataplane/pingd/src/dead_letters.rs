//! `pingd dead-letters`: prints the records of the dead-letter topic, one JSON object per line.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ping_kafka::{StoredLetter, read_dead_letters};
use serde_json::{Value, json};

use crate::config::DeadLettersArgs;

pub(crate) async fn run(args: DeadLettersArgs) -> anyhow::Result<()> {
    let failure = Arc::new(Mutex::new(None));
    let failed = Arc::clone(&failure);
    let print = move |letter: StoredLetter| match writeln!(io::stdout(), "{}", json(&letter)) {
        Ok(()) => true,
        Err(error) => {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            false
        }
    };
    read_dead_letters(&args.kafka.settings(), print).await?;
    let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    match failure {
        // The reader has seen enough.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// The event has the names of the API, so that it can be recorded again: the field `event` of several lines is a `RecordBatchRequest`.
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
