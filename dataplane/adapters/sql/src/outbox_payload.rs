//! The events of an outbox row as bytes: an `EventBatch` of event.proto. Its events have no writer and seq; the row has them.

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use uuid::Uuid;

use ping_core::Event;
use ping_proto::{self as proto, EventBatch};

/// Why a payload cannot be decoded: this program did not write the row.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It is not an `EventBatch`.
    #[error("the payload of an outbox row is not an EventBatch")]
    NotABatch(#[from] prost::DecodeError),
    /// An event id does not have 16 bytes.
    #[error("the payload of an outbox row has an event without a UUID")]
    NotAUuid(#[from] uuid::Error),
}

/// Encodes without building the messages: it is on the path of every commit.
#[must_use]
pub fn encode(events: &[Event]) -> Vec<u8> {
    let lengths = events.iter().map(|event| 2 + encoded_len_varint(body_len(event) as u64) + body_len(event));
    let mut bytes = Vec::with_capacity(lengths.sum());
    for event in events {
        encode_slot(1, body_len(event), &mut bytes);
        encode_slot(1, 16, &mut bytes);
        bytes.extend_from_slice(event.id.as_bytes());
        if event.timestamp_ms != 0 {
            encode_key(2, WireType::Varint, &mut bytes);
            encode_varint(event.timestamp_ms.cast_unsigned(), &mut bytes);
        }
        for (tag, text) in [(3, &event.source), (4, &event.kind)] {
            if !text.is_empty() {
                encode_slot(tag, text.len(), &mut bytes);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}

fn encode_slot(tag: u32, length: usize, bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(length as u64, bytes);
}

fn body_len(event: &Event) -> usize {
    let text = |text: &str| if text.is_empty() { 0 } else { 1 + encoded_len_varint(text.len() as u64) + text.len() };
    let at = if event.timestamp_ms == 0 { 0 } else { 1 + encoded_len_varint(event.timestamp_ms.cast_unsigned()) };
    18 + at + text(&event.source) + text(&event.kind)
}

/// Decodes the events of a row.
///
/// # Errors
/// When this program did not write the row.
pub fn decode(payload: &[u8]) -> Result<Vec<Event>, PayloadError> {
    let batch = EventBatch::decode(payload)?;
    let event = |stored: proto::Event| {
        Ok(Event {
            id: Uuid::from_slice(&stored.id)?,
            timestamp_ms: stored.timestamp_ms,
            timestamp_assumed: false,
            source: stored.source.into(),
            kind: stored.kind.into(),
        })
    };
    batch.events.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_event()(id: u128, at in 0i64.., source in ".{0,80}", kind in "[a-z]{0,3}") -> Event {
            Event { id: Uuid::from_u128(id), timestamp_ms: at, timestamp_assumed: false, source: source.into(), kind: kind.into() }
        }
    }

    proptest! {
        #[test]
        fn events_survive_as_the_bytes_of_the_message(events in proptest::collection::vec(any_event(), 0..20)) {
            let stored = |event: &Event| proto::Event {
                id: event.id.as_bytes().to_vec(),
                timestamp_ms: event.timestamp_ms,
                source: event.source.to_string(),
                kind: event.kind.to_string(),
                ..proto::Event::default()
            };
            let message = EventBatch { events: events.iter().map(stored).collect() };
            let bytes = encode(&events);
            prop_assert_eq!(&bytes, &message.encode_to_vec());
            prop_assert_eq!(decode(&bytes).unwrap(), events);
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert!(matches!(decode(&[0xff; 3]), Err(PayloadError::NotABatch(_))));
        let short = EventBatch { events: vec![proto::Event { id: vec![1], ..proto::Event::default() }] };
        assert!(matches!(decode(&short.encode_to_vec()), Err(PayloadError::NotAUuid(_))));
    }
}
