//! Errors for JSON bodies that are not the expected message.

use connectrpc::{ConnectError, ErrorCode};
use ping_proto as proto;
use serde::de::DeserializeOwned;

use super::errors;

/// Explains why the JSON body of a call was refused, if that is why it failed. Our own errors have details; those of the protocol
/// library have none.
pub(super) fn explain(error: ConnectError, path: &str, body: &[u8]) -> ConnectError {
    if error.code != ErrorCode::InvalidArgument || !error.details.is_empty() {
        return error;
    }
    let describe = match path {
        "ping.v1.PingService/Ping" => describe::<proto::PingRequest>,
        "ping.v1.PingService/PingCount" => describe::<proto::PingCountRequest>,
        "ping.v1.EventService/Record" => describe::<proto::RecordRequest>,
        "ping.v1.EventService/RecordBatch" => describe::<proto::RecordBatchRequest>,
        "ping.v1.SourceService/SourceStats" => describe::<proto::SourceStatsRequest>,
        "ping.v1.SourceService/TopSources" => describe::<proto::TopSourcesRequest>,
        "ping.v1.SourceService/Series" => describe::<proto::SeriesRequest>,
        "ping.v1.SourceService/GetStatus" => describe::<proto::GetStatusRequest>,
        "ping.v1.LiveService/Watch" => describe::<proto::WatchRequest>,
        _ => return error,
    };
    describe(body).map_or(error, |(field, message)| errors::invalid_field(&field, message))
}

/// Names the field that is wrong and the type it should have: `timestamp_ms: expected an integer`. Reads the body a second time to
/// find the field, so that valid bodies do not pay for it. None if the body is valid.
fn describe<Q: DeserializeOwned>(body: &[u8]) -> Option<(String, String)> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let located = match serde_path_to_error::deserialize::<_, Q>(&mut json) {
        Ok(_) => json.end().err().map(|error| (String::new(), format!("the body is not valid JSON: {error}")))?,
        Err(error) => locate(&error),
    };
    Some(located)
}

/// The field that an error is about, and a message that names it.
pub(super) fn locate(error: &serde_path_to_error::Error<serde_json::Error>) -> (String, String) {
    if !error.inner().is_data() {
        return (String::new(), format!("the body is not valid JSON: {}", error.inner()));
    }
    let path = error.path().to_string();
    let text = error.inner().to_string();
    let expected = expected(text.split(" at line ").next().unwrap_or(&text));
    let place = if path == "." { "the JSON body" } else { &path };
    let message = format!("{place}: {expected}");
    (if path == "." { String::new() } else { path }, message)
}

/// What the decoder expected, without its terms.
fn expected(reason: &str) -> String {
    match reason.rsplit_once(", expected ") {
        Some((_, "a sequence")) => "expected an array".to_owned(),
        Some((_, integer)) if integer.starts_with("an i64") || integer.starts_with("an i32") => {
            "expected an integer".to_owned()
        }
        Some((_, message)) if message.starts_with("struct ") => "expected an object".to_owned(),
        Some((_, other)) => format!("expected {}", other.trim_end_matches(" or null")),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<Q: DeserializeOwned>(body: &str) -> String {
        describe::<Q>(body.as_bytes()).unwrap().1
    }

    #[test]
    fn a_json_error_names_the_field_and_the_type_it_should_have() {
        for (body, expected) in [
            (r#"{"timestamp_ms": "yesterday"}"#, "timestamp_ms: expected an integer"),
            (r#"{"timestampMs": 1.5}"#, "timestampMs: expected an integer"),
            (r#"{"timestampMs": ""}"#, "timestampMs: expected an integer"),
            (r#"{"event_id": 7}"#, "event_id: expected a string"),
            (r#"{"receipt": "yes"}"#, "receipt: expected a boolean"),
        ] {
            assert_eq!(message::<proto::PingRequest>(body), expected, "{body}");
        }
        let nested = message::<proto::RecordBatchRequest>(r#"{"events": [{}, {"timestampMs": "x"}]}"#);
        assert_eq!(nested, "events[1].timestampMs: expected an integer");
        let list = message::<proto::RecordBatchRequest>(r#"{"events": 7}"#);
        assert_eq!(list, "events: expected an array");
    }

    #[test]
    fn a_body_that_is_not_json_is_reported_as_such() {
        for body in ["{", "{} {}", "event"] {
            let message = message::<proto::PingRequest>(body);
            assert!(message.starts_with("the body is not valid JSON: "), "{body}: {message}");
        }
    }

    #[test]
    fn every_form_of_a_number_in_proto3_json_is_accepted() {
        for number in
            ["null", "1728926331000", "\"1728926331000\"", "1728926331000.0", "1.728926331e12", "-0", "\"-0\""]
        {
            let body = format!(r#"{{"timestampMs": {number}}}"#);
            assert_eq!(describe::<proto::PingRequest>(body.as_bytes()), None, "{body}");
        }
        assert_eq!(describe::<proto::SeriesRequest>(br#"{"step": 99}"#), None, "enums are open");
    }
}
