//! How messages are written and read.

use std::marker::PhantomData;

use buffa::Message;
use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Encodes `Q` and decodes `A`.
pub(crate) struct MessageCodec<Q, A>(PhantomData<fn(Q) -> A>);

impl<Q, A> Default for MessageCodec<Q, A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Q: Message + Send + 'static, A: Message + Default + Send + 'static> Codec for MessageCodec<Q, A> {
    type Encode = Q;
    type Decode = A;
    type Encoder = MessageEncoder<Q>;
    type Decoder = MessageDecoder<A>;

    fn encoder(&mut self) -> MessageEncoder<Q> {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> MessageDecoder<A> {
        MessageDecoder(PhantomData)
    }
}

/// Sends messages that are encoded already, and decodes `A`.
pub(crate) struct EncodedCodec<A>(PhantomData<fn() -> A>);

impl<A> Default for EncodedCodec<A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: Message + Default + Send + 'static> Codec for EncodedCodec<A> {
    type Encode = Bytes;
    type Decode = A;
    type Encoder = EncodedEncoder;
    type Decoder = MessageDecoder<A>;

    fn encoder(&mut self) -> EncodedEncoder {
        EncodedEncoder
    }

    fn decoder(&mut self) -> MessageDecoder<A> {
        MessageDecoder(PhantomData)
    }
}

pub(crate) struct MessageEncoder<Q>(PhantomData<fn(Q)>);

impl<Q: Message> Encoder for MessageEncoder<Q> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, message: Q, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer);
        Ok(())
    }
}

pub(crate) struct EncodedEncoder;

impl Encoder for EncodedEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

pub(crate) struct MessageDecoder<A>(PhantomData<fn() -> A>);

impl<A: Message + Default> Decoder for MessageDecoder<A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        A::decode_from_slice(&bytes)
            .map(Some)
            .map_err(|error| Status::internal(format!("the response cannot be decoded: {error}")))
    }
}
