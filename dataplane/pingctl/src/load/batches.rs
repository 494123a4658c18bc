//! Batches as they go over the wire. They are encoded once; from then on only the ids change, in place, in buffers that are
//! used again. That leaves a load generator little to do but to wait.

use crate::when::now;
use bytes::{BufMut, Bytes, BytesMut};
use ping_proto::{PingRequest, StreamPingsRequest, StreamPingsResponse};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};
use uuid::{Uuid, fmt::Hyphenated};

use super::{args::Plan, ids::Ids};

/// The batches of one stream.
pub(super) struct Batches {
    template: Bytes,
    /// Where the ids are in it; empty when the server makes them.
    places: Vec<usize>,
    ids: Ids,
    spare: Vec<BytesMut>,
}

impl Batches {
    pub(super) fn new(plan: &Plan) -> anyhow::Result<Self> {
        let mut template = BytesMut::new();
        let mut places = Vec::new();
        for turn in 0..plan.batch {
            let event_id = if plan.ids { Uuid::nil().to_string() } else { String::new() };
            let ping = PingRequest { event_id, source: plan.source(turn), ..PingRequest::default() };
            let begin = template.len();
            // Messages one after the other are one message with the repetitions of all.
            StreamPingsRequest { pings: vec![ping.clone()] }.encode(&mut template)?;
            if plan.ids {
                let id =
                    template[begin..].windows(Hyphenated::LENGTH).position(|part| part == ping.event_id.as_bytes());
                places.extend(id.map(|id| begin + id));
            }
        }
        Ok(Self { template: template.freeze(), places, ids: Ids::new(), spare: Vec::new() })
    }

    /// The next batch, with ids nobody used before.
    pub(super) fn next(&mut self) -> Bytes {
        if self.places.is_empty() {
            return self.template.clone();
        }
        let mut buffer = self.spare.pop().unwrap_or_else(|| BytesMut::from(&self.template[..]));
        let now = now();
        for place in &self.places {
            let id = self.ids.next(now).hyphenated();
            id.encode_lower(&mut buffer[*place..place + Hyphenated::LENGTH]);
        }
        buffer.freeze()
    }

    /// Takes back a batch that is settled.
    pub(super) fn reuse(&mut self, batch: Bytes) {
        if !self.places.is_empty() {
            self.spare.extend(batch.try_into_mut());
        }
    }
}

/// Sends batches as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = StreamPingsResponse;
    type Encoder = Self;
    type Decoder = ProstDecoder<StreamPingsResponse>;

    fn encoder(&mut self) -> Self::Encoder {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<StreamPingsRequest, StreamPingsResponse>::new().decoder()
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, batch: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::load::args::{Mode, Rate};

    fn batches(ids: bool, sources: u32) -> Batches {
        let plan = Plan {
            address: "localhost".parse().unwrap(),
            mode: Mode::Stream,
            rate: Rate(None),
            duration: Duration::from_secs(1),
            connections: 1,
            in_flight: 1,
            batch: 300,
            sources,
            ids,
            check: false,
            retries: 0,
            timeout: Duration::from_secs(1),
        };
        Batches::new(&plan).unwrap()
    }

    fn decode(batch: &Bytes) -> Vec<PingRequest> {
        StreamPingsRequest::decode(batch.clone()).unwrap().pings
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
            batches.reuse(batch);
        }
        assert_eq!((ids.len(), batches.spare.len()), (900, 1));
    }

    #[test]
    fn without_ids_a_batch_is_always_the_same() {
        let mut batches = batches(false, 0);
        assert_eq!(batches.next(), batches.next());
        assert_eq!(decode(&batches.next()), vec![PingRequest::default(); 300]);
    }
}
