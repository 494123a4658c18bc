//! The services of the API, the size limits of their methods, and what a message costs in memory. All of it is known before the message is decoded.

use connectrpc::{CodecFormat, Limits};
use ping_proto::{
    EVENT_SERVICE_SERVICE_NAME, LIVE_SERVICE_SERVICE_NAME, PING_SERVICE_SERVICE_NAME, SOURCE_SERVICE_SERVICE_NAME,
};

/// The services of the API.
pub(super) const SERVICES: [&str; 4] =
    [PING_SERVICE_SERVICE_NAME, EVENT_SERVICE_SERVICE_NAME, SOURCE_SERVICE_SERVICE_NAME, LIVE_SERVICE_SERVICE_NAME];

/// Maximum number of events in a batch.
pub(super) const MAX_BATCH_EVENTS: usize = 10_000;
/// Maximum size of a request with one query or event, in bytes.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Maximum size of a batch, in bytes: 10,000 events with ids and sources fit.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How much longer than its message a body may be. It has to hold the prefix of an enveloped message, and a body beyond it is not
/// read to its end, so the client would see a broken connection instead of the error.
const BODY_SLACK_BYTES: usize = 64 * 1024;
/// Memory of one event besides its bytes in the message: while it is decoded, validated, and until it is committed.
const EVENT_BYTES: usize = 512;

/// Methods that receive batches of events.
const BATCH_METHODS: [&str; 3] =
    ["ping.v1.PingService/StreamPings", "ping.v1.EventService/RecordBatch", "ping.v1.EventService/RecordStream"];

/// Whether the method at `path` receives batches of events.
pub(super) fn receives_batches(path: &str) -> bool {
    BATCH_METHODS.contains(&path)
}

/// The limits of the method at `path`.
pub(super) fn of(path: &str) -> Limits {
    let (bytes, elements) =
        if receives_batches(path) { (MAX_BATCH_BYTES, MAX_BATCH_EVENTS + 1) } else { (MAX_REQUEST_BYTES, 1_000) };
    Limits::default()
        .with_max_request_body_size(bytes + BODY_SLACK_BYTES)
        .with_max_message_size(bytes)
        .with_element_memory_limit(elements * EVENT_BYTES)
}

/// What the message of a method costs in memory, in bytes; none if it has more events than a batch may have.
pub(super) fn cost(path: &str, message: &[u8], format: CodecFormat) -> Option<usize> {
    let events = match format {
        CodecFormat::Json => count_json_objects(message),
        _ if receives_batches(path) => count_fields(message),
        _ => 1,
    };
    // In JSON, the batch is an object too.
    (events <= MAX_BATCH_EVENTS + 1).then_some(message.len() + events * EVENT_BYTES)
}

/// What a message within `limits` can cost at most, in bytes.
pub(super) fn max_cost(limits: Limits) -> usize {
    limits.max_message_size() + (MAX_BATCH_EVENTS + 1) * EVENT_BYTES
}

/// The number of objects in a JSON text, or more: braces in strings count too.
fn count_json_objects(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'{').count()
}

/// The number of fields at the top level of a Protobuf message, up to the first invalid one. The decoder reports that one.
fn count_fields(mut message: &[u8]) -> usize {
    let mut fields = 0;
    while !message.is_empty() {
        fields += 1;
        let Some(rest) = skip_field(message) else { break };
        message = rest;
    }
    fields
}

/// What follows the first field.
fn skip_field(message: &[u8]) -> Option<&[u8]> {
    let (tag, rest) = varint(message)?;
    match tag & 7 {
        0 => varint(rest).map(|(_, rest)| rest),
        1 => rest.get(8..),
        2 => {
            let (length, rest) = varint(rest)?;
            rest.get(usize::try_from(length).ok()?..)
        }
        5 => rest.get(4..),
        _ => None,
    }
}

/// A number and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use buffa::Message;
    use ping_proto::{RecordBatchRequest, RecordRequest};

    use super::*;

    const BATCH: &str = "ping.v1.EventService/RecordBatch";

    fn batch(events: usize) -> RecordBatchRequest {
        let event = RecordRequest { source: "{a".into(), timestamp_ms: 7, ..RecordRequest::default() };
        RecordBatchRequest { events: vec![event; events] }
    }

    #[test]
    fn the_cost_of_a_batch_grows_with_its_events() {
        let proto = batch(3).encode_to_vec();
        assert_eq!(cost(BATCH, &proto, CodecFormat::Proto), Some(proto.len() + 3 * EVENT_BYTES));
        let json = serde_json::to_vec(&batch(3)).unwrap();
        assert!(cost(BATCH, &json, CodecFormat::Json).unwrap() >= json.len() + 4 * EVENT_BYTES);
    }

    #[test]
    fn a_batch_with_too_many_events_is_found_before_it_is_decoded() {
        let empty = [0x0a, 0x00].repeat(8 * 1024 * 1024 / 2);
        assert_eq!(cost(BATCH, &empty, CodecFormat::Proto), None);
        let json = format!("{{\"events\":[{}{{}}]}}", "{},".repeat(MAX_BATCH_EVENTS));
        assert_eq!(cost(BATCH, json.as_bytes(), CodecFormat::Json), None);
        assert!(cost(BATCH, &batch(MAX_BATCH_EVENTS).encode_to_vec(), CodecFormat::Proto).is_some());
    }

    #[test]
    fn a_message_that_ends_early_or_is_not_protobuf_is_left_to_the_decoder() {
        for bytes in
            [&[0x0a][..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], &[0xff; 20], &[0x0b]]
        {
            assert_eq!(cost(BATCH, bytes, CodecFormat::Proto), Some(bytes.len() + EVENT_BYTES), "{bytes:?}");
        }
    }
}
