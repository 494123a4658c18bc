//! The events of an outbox row as bytes: an `EventBatch` of event.proto whose events have no writer and seq (the row has them).

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use uuid::Uuid;

use crate::{
    domain::Event,
    wire::{self, EventBatch},
};

/// Why a payload cannot be read: the row was not written by this program.
#[derive(Debug, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("the payload of an outbox row is not an EventBatch")]
    NotABatch(#[from] prost::DecodeError),
    #[error("the payload of an outbox row has an event without a UUID")]
    NotAUuid(#[from] uuid::Error),
}

/// Encodes without building the messages: it is on the path of every commit.
pub(super) fn encode(events: &[Event]) -> Vec<u8> {
    let lengths = events.iter().map(|event| 2 + encoded_len_varint(body_len(event) as u64) + body_len(event));
    let mut bytes = Vec::with_capacity(lengths.sum());
    for event in events {
        encode_slot(1, body_len(event), &mut bytes);
        encode_slot(1, 16, &mut bytes);
        bytes.extend_from_slice(event.id.as_bytes());
        if event.at != 0 {
            encode_key(2, WireType::Varint, &mut bytes);
            encode_varint(event.at.cast_unsigned(), &mut bytes);
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
    let at = if event.at == 0 { 0 } else { 1 + encoded_len_varint(event.at.cast_unsigned()) };
    18 + at + text(&event.source) + text(&event.kind)
}

pub(super) fn decode(payload: &[u8]) -> Result<Vec<Event>, PayloadError> {
    let batch = EventBatch::decode(payload)?;
    let event = |stored: wire::Event| {
        Ok(Event {
            id: Uuid::from_slice(&stored.id)?,
            at: stored.timestamp_ms,
            at_assumed: false,
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
            Event { id: Uuid::from_u128(id), at, at_assumed: false, source: source.into(), kind: kind.into() }
        }
    }

    proptest! {
        #[test]
        fn events_survive_as_the_bytes_of_the_message(events in proptest::collection::vec(any_event(), 0..20)) {
            let stored = |event: &Event| wire::Event {
                id: event.id.as_bytes().to_vec(),
                timestamp_ms: event.at,
                source: event.source.to_string(),
                kind: event.kind.to_string(),
                ..wire::Event::default()
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
        let short = EventBatch { events: vec![wire::Event { id: vec![1], ..wire::Event::default() }] };
        assert!(matches!(decode(&short.encode_to_vec()), Err(PayloadError::NotAUuid(_))));
    }
}
