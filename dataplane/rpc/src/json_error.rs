//! Errors for JSON bodies that are not the expected message.

use serde::de::DeserializeOwned;

/// How the generated code reports a value that is not an integer.
const INTEGER_ERRORS: [&str; 3] =
    ["invalid digit found in string", "cannot parse integer from empty string", "data did not match any variant"];

/// Names the field that is wrong and the type it should have: `timestamp_ms: expected an integer`. Reads the body a second time to
/// find the field, so that valid bodies do not pay for it.
pub(super) fn describe<Q: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> String {
    let mut json = serde_json::Deserializer::from_slice(body);
    let located = match serde_path_to_error::deserialize::<_, Q>(&mut json) {
        Err(located) if error.is_data() => located,
        _ => return format!("the body is not valid JSON: {error}"),
    };
    let field = match located.path().to_string() {
        root if root == "." => "the JSON body".to_owned(),
        field => field,
    };
    let text = located.inner().to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    let expected = match reason.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((_, "a sequence")) => "expected an array".to_owned(),
        Some((_, message)) if message.starts_with("struct ") => "expected an object".to_owned(),
        Some((_, other)) => format!("expected {other}"),
        // Only integers can be out of range, be text that cannot be parsed, or match neither a number nor text.
        None if reason.starts_with("number too ") => format!("expected an integer of at most 64 bits ({reason})"),
        None if INTEGER_ERRORS.iter().any(|known| reason.starts_with(known)) => "expected an integer".to_owned(),
        None => reason.to_owned(),
    };
    format!("{field}: {expected}")
}

#[cfg(test)]
mod tests {
    use ping_proto as proto;

    use super::*;

    fn message<Q: DeserializeOwned>(body: &str) -> String {
        let error = serde_json::from_str::<Q>(body).err().unwrap();
        describe::<Q>(body.as_bytes(), &error)
    }

    #[test]
    fn a_json_error_names_the_field_and_the_type_it_should_have() {
        for (body, expected) in [
            (r#"{"timestamp_ms": "yesterday"}"#, "timestamp_ms: expected an integer"),
            (r#"{"timestampMs": 1.5}"#, "timestampMs: expected an integer"),
            (r#"{"timestampMs": ""}"#, "timestampMs: expected an integer"),
            (r#"{"event_id": 7}"#, "event_id: expected a string"),
            (r#"{"receipt": "yes"}"#, "receipt: expected a boolean"),
            ("[1, 2]", "the JSON body: expected an object"),
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
}
