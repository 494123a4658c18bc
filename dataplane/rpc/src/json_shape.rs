//! Refuses JSON arrays where a message is expected: the decoder would read their elements as the fields of the message, in order.

use std::fmt;

use connectrpc::ConnectError;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{errors, limits};

const EXPECTED: &str = "expected an object";

/// Refuses a body that is an array, or has one in place of a nested message.
pub(super) fn check(path: &str, body: &[u8]) -> Result<(), ConnectError> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(errors::invalid_field("", format!("the JSON body: {EXPECTED}")));
    }
    // A batch is one array. Few valid bodies have others, and only those are read an additional time.
    let arrays = body.iter().filter(|byte| **byte == b'[').count();
    if arrays <= usize::from(limits::receives_batches(path)) {
        return Ok(());
    }
    let place = match path {
        "ping.v1.PingService/StreamPings" => array_in::<Pings>(body),
        "ping.v1.EventService/RecordBatch" | "ping.v1.EventService/RecordStream" => array_in::<Events>(body),
        "ping.v1.PingService/PingCount" | "ping.v1.SourceService/TopSources" | "ping.v1.SourceService/Series" => {
            array_in::<Ranged>(body)
        }
        _ => None,
    };
    place.map_or(Ok(()), |place| Err(errors::invalid_field(&place, format!("{place}: {EXPECTED}"))))
}

/// The path of an array in place of a message. Everything else that is wrong is left to the decoder.
fn array_in<T: DeserializeOwned>(body: &[u8]) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let error = serde_path_to_error::deserialize::<_, T>(&mut json).err()?;
    error.inner().to_string().starts_with(EXPECTED).then(|| error.path().to_string())
}

#[derive(Deserialize)]
struct Pings {
    #[serde(rename = "pings")]
    _pings: Option<Vec<NoArray>>,
}

#[derive(Deserialize)]
struct Events {
    #[serde(rename = "events")]
    _events: Option<Vec<NoArray>>,
}

#[derive(Deserialize)]
struct Ranged {
    #[serde(rename = "timeRange", alias = "time_range")]
    _time_range: Option<NoArray>,
}

/// Any value but an array; nothing of it is stored.
struct NoArray;

impl<'de> Deserialize<'de> for NoArray {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for NoArray {
    type Value = Self;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self, A::Error> {
        Err(A::Error::custom(EXPECTED))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: &str = "ping.v1.PingService/PingCount";
    const BATCH: &str = "ping.v1.EventService/RecordBatch";
    const STREAM: &str = "ping.v1.PingService/StreamPings";

    #[test]
    fn an_array_in_place_of_a_message_is_refused() {
        for (path, body, place) in [
            (COUNT, "[1, 2]", "the JSON body"),
            (COUNT, " []", "the JSON body"),
            (COUNT, r#"{"timeRange": [1, 2]}"#, "timeRange"),
            (COUNT, r#"{"strong": true, "time_range": []}"#, "time_range"),
            (BATCH, r#"{"events": [{}, ["id", "source"]]}"#, "events[1]"),
            (STREAM, r#"{"pings": [[5]]}"#, "pings[0]"),
        ] {
            let refused = check(path, body.as_bytes()).unwrap_err();
            assert_eq!(refused.message, Some(format!("{place}: expected an object")), "{body}");
        }
    }

    #[test]
    fn arrays_elsewhere_are_accepted() {
        for (path, body) in [
            (COUNT, r#"{"timeRange": {"start": 1}, "unknownField": [1, [2]]}"#),
            (COUNT, r#"{"after": "[", "timeRange": null}"#),
            (BATCH, r#"{"events": [{"source": "[a]"}, {"unknownField": [[1]]}], "pings": [[1]]}"#),
            (BATCH, r#"{"events": null, "unknownField": [[]]}"#),
            (STREAM, r#"{"pings": [{}], "unknownField": [7]}"#),
            ("ping.v1.PingService/Ping", r#"{"unknownField": [[1]]}"#),
            // Not valid, which is for the decoder to say.
            (COUNT, r#"{"timeRange": "[["#),
            (BATCH, r#"{"events": {"[": "["}}"#),
        ] {
            assert!(check(path, body.as_bytes()).is_ok(), "{body}");
        }
    }
}
