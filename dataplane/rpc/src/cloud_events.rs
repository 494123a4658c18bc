//! CloudEvents: a request with them becomes one to `EventService`, so that limits, permissions, quotas and errors are the same.

mod attributes;

use std::fmt;

use bytes::Bytes;
use connectrpc::ConnectError;
use http::{HeaderValue, Method, Request, Uri, header};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::{errors, json_error, limits::MAX_BATCH_EVENTS};
use attributes::Object;

/// Where CloudEvents are accepted.
pub(super) const PATH: &str = "/cloudevents";

/// How to send them.
pub(super) const MEDIA_TYPES: &str =
    "send CloudEvents by POST, as application/cloudevents+json (one) or application/cloudevents-batch+json (an array)";

/// What the body has. An extension of requests with CloudEvents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    One,
    Batch,
}

/// Makes a request with CloudEvents, if it is one, a request to the event service. The body is converted once it is complete.
pub(super) fn route<B>(request: &mut Request<B>) {
    if request.uri().path() != PATH || request.method() != Method::POST {
        return;
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let (form, method) = match media_type {
        b"application/cloudevents+json" => (Form::One, "/ping.v1.EventService/Record"),
        b"application/cloudevents-batch+json" => (Form::Batch, "/ping.v1.EventService/RecordBatch"),
        _ => return,
    };
    *request.uri_mut() = Uri::from_static(method);
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.extensions_mut().insert(form);
}

/// The most bytes that a conversion holds: an event has more bytes as a CloudEvent, but for its id.
pub(super) fn cost(body: &[u8]) -> usize {
    2 * body.len() + 256
}

/// The body of the request to the event service.
///
/// # Errors
/// When a CloudEvent is invalid, or there are too many. The message has its index and the attribute.
pub(super) fn convert(form: Form, body: &[u8]) -> Result<Bytes, ConnectError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let converted = match form {
        Form::One => serde_path_to_error::deserialize::<_, Object<'_>>(&mut json).map(|Object(event)| {
            let mut record = Vec::with_capacity(body.len());
            event.write_record(&mut record).map(|()| record)
        }),
        Form::Batch => serde_path_to_error::deserialize::<_, Records>(&mut json).map(|Records(records)| Ok(records)),
    };
    let converted = converted.map_err(|error| {
        let (field, message) = json_error::locate(&error);
        errors::invalid_field(&field, message)
    })?;
    json.end().map_err(|error| errors::invalid_field("", format!("the body is not valid JSON: {error}")))?;
    converted.map(Bytes::from).map_err(|error| ConnectError::internal(error.to_string()))
}

/// A `RecordBatchRequest`, written while the array of CloudEvents is read: one event at a time is in memory in both forms.
struct Records(Vec<u8>);

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RecordsVisitor)
    }
}

struct RecordsVisitor;

impl<'de> Visitor<'de> for RecordsVisitor {
    type Value = Records;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<Records, A::Error> {
        let mut records = b"{\"events\":[".to_vec();
        let mut count = 0;
        while let Some(Object(event)) = events.next_element::<Object<'de>>()? {
            if count == MAX_BATCH_EVENTS {
                let message = format!("the batch has too many events; send at most {MAX_BATCH_EVENTS} at once");
                return Err(A::Error::custom(message));
            }
            if count > 0 {
                records.push(b',');
            }
            event.write_record(&mut records).map_err(A::Error::custom)?;
            count += 1;
        }
        records.extend_from_slice(b"]}");
        Ok(Records(records))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn one(event: &Value) -> Result<Value, String> {
        convert(Form::One, event.to_string().as_bytes())
            .map(|record| serde_json::from_slice(&record).unwrap())
            .map_err(|error| error.message.unwrap())
    }

    fn event() -> Value {
        json!({"specversion": "1.0", "id": "7", "source": "/shops/7", "type": "sale"})
    }

    fn with(attribute: &str, value: Value) -> Value {
        let mut event = event();
        event[attribute] = value;
        event
    }

    #[test]
    fn each_attribute_has_its_field() {
        let id = "018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f";
        let mut whole = with("id", json!(id));
        whole["time"] = json!("2026-01-31T10:00:00.1239+01:00");
        whole["data"] = json!({"specversion": [1, {"id": 2}]});
        whole["subject"] = json!(7);
        let expected =
            json!({"eventId": id, "source": "/shops/7", "kind": "sale", "timestampMs": 1_769_850_000_123_i64});
        assert_eq!(one(&whole), Ok(expected));
        assert_eq!(one(&event()).unwrap()["timestampMs"], 0);
        assert_eq!(one(&with("time", Value::Null)).unwrap()["timestampMs"], 0);
    }

    #[test]
    fn an_invalid_event_is_named_with_its_attribute() {
        for (event, words) in [
            (with("specversion", json!("0.3")), "specversion: the version of CloudEvents must be \"1.0\""),
            (with("id", json!("")), "id: CloudEvents must not leave it empty"),
            (with("id", json!(7)), "id: expected a string"),
            (with("time", json!("yesterday")), "time: not a time of RFC 3339"),
            (with("time", json!("1970-01-01T00:00:00Z")), "time: not a time of RFC 3339"),
            (json!({"specversion": "1.0", "id": "7", "source": "a"}), "the JSON body: missing field `type`"),
            (json!([event()]), "the JSON body: expected an object"),
            (json!("event"), "the JSON body: expected an object"),
        ] {
            let message = one(&event).unwrap_err();
            assert!(message.starts_with(words), "{event}: {message}");
        }
        let batch = |body: &str| convert(Form::Batch, body.as_bytes()).unwrap_err().message.unwrap();
        assert_eq!(batch(&event().to_string()), "the JSON body: expected an array");
        let second = json!([event(), with("time", json!("x"))]).to_string();
        assert!(batch(&second).starts_with("[1].time: not a time"), "{}", batch(&second));
        assert_eq!(batch("[[\"1.0\"]]"), "[0]: expected an object");
        assert!(batch("[] []").starts_with("the body is not valid JSON"));
        assert!(batch("[{").starts_with("the body is not valid JSON"));
    }

    #[test]
    fn a_batch_is_bounded_and_holds_no_more_than_its_cost() {
        let batch = |count: usize| Value::from(vec![event(); count]).to_string();
        let largest = batch(MAX_BATCH_EVENTS);
        let converted = convert(Form::Batch, largest.as_bytes()).unwrap();
        assert!(converted.len() <= cost(largest.as_bytes()));
        let read: ping_proto::RecordBatchRequest = serde_json::from_slice(&converted).unwrap();
        assert_eq!((read.events.len(), read.events[0].kind.as_str()), (MAX_BATCH_EVENTS, "sale"));
        let error = convert(Form::Batch, batch(MAX_BATCH_EVENTS + 1).as_bytes()).unwrap_err();
        assert!(error.message.unwrap().contains("at most 10000"));
        assert_eq!(&convert(Form::Batch, b" [ ] ").unwrap()[..], b"{\"events\":[]}");
    }
}
