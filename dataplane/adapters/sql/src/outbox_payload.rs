//! The events of an outbox row as bytes: an `EventBatch` of event.proto. Its events have no writer and seq; the row has them.

use prost::Message;
use uuid::Uuid;

use ping_core::Event;
use ping_proto::log::{self as proto, EventBatch};

/// The number of the field `events` in `EventBatch`.
const EVENTS_TAG: u32 = 1;
/// Encoded size of an event without a source and a kind, rounded up.
const TYPICAL_EVENT_BYTES: usize = 32;

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

/// Encodes the events one after the other with one reused message. This is on the path of every commit, and building an `EventBatch`
/// first takes three to five times as long (79 instead of 28 ns per event; 217 instead of 48 ns with a source and a kind).
#[must_use]
pub fn encode(events: &[Event]) -> Vec<u8> {
    let mut message = proto::Event::default();
    let mut bytes = Vec::with_capacity(events.len() * TYPICAL_EVENT_BYTES);
    for event in events {
        message.id.clear();
        message.id.extend_from_slice(event.id.as_bytes());
        message.timestamp_ms = event.timestamp_ms;
        message.source.clear();
        message.source.push_str(&event.source);
        message.kind.clear();
        message.kind.push_str(&event.kind);
        prost::encoding::message::encode(EVENTS_TAG, &message, &mut bytes);
    }
    bytes
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
