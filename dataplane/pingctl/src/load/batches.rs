//! Encoded batches. A batch is encoded once; after that only the ids are replaced, in buffers that are reused. This leaves the
//! CPU to the server under test.

use buffa::Message;
use bytes::{Bytes, BytesMut};
use ping_proto::{PingRequest, StreamPingsRequest};
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    args::LoadConfig,
    uuids::{UuidGenerator, unix_ms},
};

/// The batches of one stream.
pub(super) struct Batches {
    template: Bytes,
    /// Offsets of the ids in a batch; empty if the server generates the ids.
    id_offsets: Vec<usize>,
    uuids: UuidGenerator,
    free_buffers: Vec<BytesMut>,
}

impl Batches {
    pub(super) fn new(config: &LoadConfig) -> Self {
        let mut template = BytesMut::new();
        let mut id_offsets = Vec::new();
        for index in 0..config.batch {
            let event_id = if config.ids { Uuid::nil().to_string() } else { String::new() };
            let ping = PingRequest { event_id, source: config.source(index), ..PingRequest::default() };
            let start = template.len();
            // Concatenated protobuf messages are one message with the repeated fields of all.
            StreamPingsRequest { pings: vec![ping.clone()] }.encode(&mut template);
            if config.ids {
                let id =
                    template[start..].windows(Hyphenated::LENGTH).position(|part| part == ping.event_id.as_bytes());
                id_offsets.extend(id.map(|id| start + id));
            }
        }
        Self { template: template.freeze(), id_offsets, uuids: UuidGenerator::new(), free_buffers: Vec::new() }
    }

    /// The next batch, with new ids.
    pub(super) fn next(&mut self) -> Bytes {
        if self.id_offsets.is_empty() {
            return self.template.clone();
        }
        let mut buffer = self.free_buffers.pop().unwrap_or_else(|| BytesMut::from(&self.template[..]));
        let unix_ms = unix_ms();
        for offset in &self.id_offsets {
            let id = self.uuids.next(unix_ms).hyphenated();
            id.encode_lower(&mut buffer[*offset..offset + Hyphenated::LENGTH]);
        }
        buffer.freeze()
    }

    /// Takes back the buffer of a settled batch.
    pub(super) fn recycle(&mut self, batch: Bytes) {
        if !self.id_offsets.is_empty() {
            self.free_buffers.extend(batch.try_into_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::{
        super::args::{Mode, Rate},
        *,
    };

    fn batches(ids: bool, sources: u32) -> Batches {
        let config = LoadConfig {
            address: "localhost".parse().unwrap(),
            mode: Mode::Stream,
            rate: Rate(None),
            duration: Duration::from_secs(1),
            connections: 1,
            in_flight: 1,
            batch: 300,
            sources,
            ids,
            history: None,
            check: false,
            retries: 0,
            timeout: Duration::from_secs(1),
        };
        Batches::new(&config)
    }

    fn decode(batch: &Bytes) -> Vec<PingRequest> {
        StreamPingsRequest::decode_from_slice(batch).unwrap().pings
    }

    #[test]
    fn every_ping_of_every_batch_has_an_id_of_its_own() {
        let mut batches = batches(true, 128);
        let mut ids = BTreeSet::new();
        for _ in 0..3 {
            let batch = batches.next();
            let pings = decode(&batch);
            assert_eq!((pings.len(), pings[0].source.as_str(), pings[129].source.as_str()), (300, "load-0", "load-1"));
            ids.extend(pings.into_iter().map(|ping| ping.event_id.parse::<Uuid>().unwrap()));
            batches.recycle(batch);
        }
        assert_eq!((ids.len(), batches.free_buffers.len()), (900, 1));
    }

    #[test]
    fn without_ids_a_batch_is_always_the_same() {
        let mut batches = batches(false, 0);
        assert_eq!(batches.next(), batches.next());
        assert_eq!(decode(&batches.next()), vec![PingRequest::default(); 300]);
    }
}
