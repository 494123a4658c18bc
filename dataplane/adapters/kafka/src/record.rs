//! The bytes of a record: `ping.v1.Event`.

use prost::Message;

use ping_core::{Millis, Seq, WriterId};
use ping_ports::{LogEvent, Malformed};
use ping_proto::Event;

/// Encodes events one after the other, into the same memory.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    event: Event,
    bytes: Vec<u8>,
}

impl Encoder {
    /// The value of a record.
    pub(super) fn encode(&mut self, writer: WriterId, seq: Seq, event: &ping_core::Event) -> &[u8] {
        let message = &mut self.event;
        message.id.clear();
        message.id.extend_from_slice(event.id.as_bytes());
        message.timestamp_ms = event.timestamp_ms;
        message.source.clear();
        message.source.push_str(&event.source);
        message.kind.clear();
        message.kind.push_str(&event.kind);
        message.writer = writer.0;
        message.seq = seq;
        self.bytes.clear();
        message.encode_raw(&mut self.bytes);
        &self.bytes
    }
}

/// What a record says. Consumers do not need its id, and an event without a source needs no memory: a tenth of the time of decoding all
/// of it.
pub(super) fn decode(value: &[u8]) -> Result<LogEvent, Malformed> {
    let mut rest = value;
    let (mut at, mut writer, mut seq): (Millis, i64, Seq) = (0, 0, 0);
    let (mut source, mut kind) = ("", "");
    let text = |bytes| str::from_utf8(bytes).map_err(|_| Malformed::Undecodable);
    while !rest.is_empty() {
        let field = step(&mut rest).ok_or(Malformed::Undecodable)?;
        match field {
            (2, Field::Varint(value)) => at = value,
            (5, Field::Varint(value)) => writer = value,
            (6, Field::Varint(value)) => seq = value,
            (3, Field::Bytes(bytes)) => source = text(bytes)?,
            (4, Field::Bytes(bytes)) => kind = text(bytes)?,
            (1, Field::Bytes(_)) | (7.., _) => {}
            _ => return Err(Malformed::Undecodable),
        }
    }
    if writer <= 0 || seq <= 0 {
        return Err(Malformed::Foreign);
    }
    Ok(LogEvent { writer: WriterId(writer), seq, timestamp_ms: at, source: source.into(), kind: kind.into() })
}

/// A field's value, as far as it matters here.
enum Field<'a> {
    Varint(i64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Takes one field off `rest`: its number and value.
fn step<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(rest)?;
    let mut skip = |count: u64| {
        *rest = rest.get(usize::try_from(count).ok()?..)?;
        Some(())
    };
    let value = match tag & 7 {
        0 => Field::Varint(varint(rest)?.cast_signed()),
        1 => skip(8).map(|()| Field::Fixed)?,
        5 => skip(4).map(|()| Field::Fixed)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (bytes, behind) = rest.split_at_checked(length)?;
            *rest = behind;
            Field::Bytes(bytes)
        }
        _ => return None,
    };
    (tag >> 3 != 0).then_some((tag >> 3, value))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            *rest = rest.get(place + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn event(source: &str, kind: &str, at: Millis) -> ping_core::Event {
        ping_core::Event {
            id: Uuid::from_u128(7),
            timestamp_ms: at,
            timestamp_assumed: false,
            source: source.into(),
            kind: kind.into(),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (writer, seq, at) in (1i64.., 1i64.., any::<i64>()),
            source in ".{0,60}",
            kind in "[a-z]{0,9}",
        ) {
            let mut encoder = Encoder::default();
            encoder.encode(WriterId(9), 9, &event("before", "before", 9));
            let value = encoder.encode(WriterId(writer), seq, &event(&source, &kind, at)).to_vec();
            let event = event(&source, &kind, at);
            prop_assert_eq!(decode(&value), Ok(LogEvent::of(WriterId(writer), seq, &event)));
            let read = Event::decode(value.as_slice()).unwrap();
            prop_assert_eq!((read.source, read.kind, read.id.len()), (source, kind, 16));
        }

        /// Whatever the full decoder refuses is refused; the scan may only be more lenient inside the fields it steps over.
        #[test]
        fn noise_is_read_as_the_full_decoder_reads_it(value in proptest::collection::vec(any::<u8>(), 0..24)) {
            match (Event::decode(value.as_slice()), decode(&value)) {
                (Ok(read), Ok(found)) => prop_assert_eq!((read.writer, read.seq, read.source), (found.writer.0, found.seq, found.source.into())),
                (Ok(read), Err(Malformed::Foreign)) => prop_assert!(read.writer <= 0 || read.seq <= 0),
                (Ok(_), Err(Malformed::Undecodable)) => prop_assert!(has_group(&value)),
                (Err(_), _) => {}
            }
        }
    }

    /// The only thing that the full decoder takes and the scan does not: groups, which no `Event` ever had.
    fn has_group(value: &[u8]) -> bool {
        value.iter().any(|byte| matches!(byte & 7, 3 | 4))
    }

    #[test]
    fn an_event_that_no_server_committed_is_foreign() {
        let mut encoder = Encoder::default();
        assert_eq!(decode(encoder.encode(WriterId(0), 0, &event("a", "", 5))), Err(Malformed::Foreign));
        assert_eq!(decode(&[]), Err(Malformed::Foreign));
    }

    #[test]
    fn anything_else_is_undecodable() {
        for value in [&b"{\"timestamp_ms\": 5}"[..], b"\x08\x05", b"\x12\xff", b"\x10"] {
            assert_eq!(decode(value), Err(Malformed::Undecodable), "{value:?}");
        }
        let fields_to_come = b"\x28\x01\x30\x02\x38\x05\x42\x01x\x4d1234";
        let event = LogEvent::of(WriterId(1), 2, &event("", "", 0));
        assert_eq!(decode(fields_to_come), Ok(event));
    }
}
