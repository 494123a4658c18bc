//! A gRPC client of the API.
//!
//! Transport only: one method per method of the API. Retries, deadlines and what errors mean belong to the programs. It uses another
//! gRPC implementation than the server, so every test that calls through it also tests that the two understand each other.
//! [`find_dead_letters`] needs no transport of its own.

mod codec;
mod dead_letters;
mod tls;
mod token;

use std::{future::Future, path::PathBuf};

use buffa::Message;
use bytes::Bytes;
use futures::Stream;
use http::uri::PathAndQuery;
use ping_proto as proto;
use tonic::{
    IntoRequest, IntoStreamingRequest, Response, Status, Streaming, client::Grpc, codec::Codec, transport::Channel,
};

use codec::{EncodedCodec, MessageCodec};
pub use dead_letters::find_dead_letters;
pub use tls::{TlsFileError, TlsFiles};
use token::Token;
pub use token::{InvalidToken, SharedToken};

/// Largest response, in bytes.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// A client. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    grpc: Grpc<Channel>,
    token: Option<Token>,
}

/// The response to a call.
type Answer<A> = Result<Response<A>, Status>;
/// The responses to a stream.
type Answers<A> = Result<Response<Streaming<A>>, Status>;

/// Defines a method per unary method of the API.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident = $path:literal;)*) => {
        $(
            $(#[$doc])*
            pub fn $name<R: IntoRequest<proto::$request>>(
                &self,
                request: R,
            ) -> impl Future<Output = Answer<proto::$response>> + Send + use<R> {
                unary(self.clone(), request.into_request(), PathAndQuery::from_static($path))
            }
        )*
    };
}

/// The errors of all methods are those of the call: see [`Status`].
impl Client {
    /// A client on `channel`.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { grpc: Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES), token: None }
    }

    /// The same client, which sends the token in the file at `path`, if any, with each call. The file is read again every ten seconds.
    #[must_use]
    pub fn with_token_file(self, path: Option<PathBuf>) -> Self {
        Self { token: path.map(Token::in_file), ..self }
    }

    /// The same client, which sends `token` with each call.
    #[must_use]
    pub fn with_shared_token(self, token: SharedToken) -> Self {
        Self { token: Some(Token::Shared(token)), ..self }
    }

    /// Connects to `address`, a URL like `http://host:port`.
    ///
    /// # Errors
    /// When the address is invalid or nothing accepts the connection.
    pub async fn connect(address: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::new(Channel::from_shared(address.to_owned())?.tcp_nodelay(true).connect().await?))
    }

    /// The same client, sending and accepting gzip.
    #[must_use]
    pub fn compressed(self) -> Self {
        use tonic::codec::CompressionEncoding::Gzip;
        Self { grpc: self.grpc.send_compressed(Gzip).accept_compressed(Gzip), ..self }
    }

    unary! {
        /// `PingService.Ping`
        ping(PingRequest) -> PingResponse = "/ping.v1.PingService/Ping";
        /// `PingService.PingCount`
        ping_count(PingCountRequest) -> PingCountResponse = "/ping.v1.PingService/PingCount";
        /// `EventService.Record`
        record(RecordRequest) -> RecordResponse = "/ping.v1.EventService/Record";
        /// `EventService.RecordBatch`
        record_batch(RecordBatchRequest) -> RecordBatchResponse = "/ping.v1.EventService/RecordBatch";
        /// `SourceService.SourceStats`
        source_stats(SourceStatsRequest) -> SourceStatsResponse = "/ping.v1.SourceService/SourceStats";
        /// `SourceService.TopSources`
        top_sources(TopSourcesRequest) -> TopSourcesResponse = "/ping.v1.SourceService/TopSources";
        /// `SourceService.Series`
        series(SeriesRequest) -> SeriesResponse = "/ping.v1.SourceService/Series";
        /// `SourceService.GetStatus`
        get_status(GetStatusRequest) -> GetStatusResponse = "/ping.v1.SourceService/GetStatus";
        /// `AdminService.Verify`, on the admin port.
        verify(VerifyRequest) -> VerifyResponse = "/ping.v1.AdminService/Verify";
        /// `AdminService.RevokeStatus`, on the admin port.
        revoke_status(RevokeStatusRequest) -> RevokeStatusResponse = "/ping.v1.AdminService/RevokeStatus";
        /// `AdminService.DeadLetters`, on the admin port.
        dead_letters(DeadLettersRequest) -> DeadLettersResponse = "/ping.v1.AdminService/DeadLetters";
    }

    /// `PingService.StreamPings`
    ///
    /// # Errors
    /// When the call cannot be started.
    pub async fn stream_pings(
        &self,
        batches: impl IntoStreamingRequest<Message = proto::StreamPingsRequest>,
    ) -> Answers<proto::StreamPingsResponse> {
        let codec = MessageCodec::<proto::StreamPingsRequest, proto::StreamPingsResponse>::default();
        self.stream(batches, "/ping.v1.PingService/StreamPings", codec).await
    }

    /// `PingService.StreamPings` with batches that are already encoded.
    ///
    /// # Errors
    /// When the call cannot be started.
    pub async fn stream_encoded_pings(
        &self,
        batches: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Answers<proto::StreamPingsResponse> {
        let codec = EncodedCodec::<proto::StreamPingsResponse>::default();
        self.stream(batches, "/ping.v1.PingService/StreamPings", codec).await
    }

    /// `EventService.RecordStream`
    ///
    /// # Errors
    /// When the call cannot be started.
    pub async fn record_stream(
        &self,
        batches: impl IntoStreamingRequest<Message = proto::RecordBatchRequest>,
    ) -> Answers<proto::RecordBatchResponse> {
        let codec = MessageCodec::<proto::RecordBatchRequest, proto::RecordBatchResponse>::default();
        self.stream(batches, "/ping.v1.EventService/RecordStream", codec).await
    }

    /// `LiveService.Watch`
    ///
    /// # Errors
    /// When the call cannot be started.
    pub async fn watch(&self, request: impl IntoRequest<proto::WatchRequest>) -> Answers<proto::WatchResponse> {
        let (mut grpc, mut request) = (self.grpc.clone(), request.into_request());
        if let Some(token) = &self.token {
            token.authorize(request.metadata_mut())?;
        }
        ready(&mut grpc).await?;
        let codec = MessageCodec::<proto::WatchRequest, proto::WatchResponse>::default();
        grpc.server_streaming(request, PathAndQuery::from_static("/ping.v1.LiveService/Watch"), codec).await
    }

    async fn stream<Q: Send + Sync + 'static, A: Send + Sync + 'static>(
        &self,
        requests: impl IntoStreamingRequest<Message = Q>,
        path: &'static str,
        codec: impl Codec<Encode = Q, Decode = A> + Send + 'static,
    ) -> Answers<A> {
        let (mut grpc, mut requests) = (self.grpc.clone(), requests.into_streaming_request());
        if let Some(token) = &self.token {
            token.authorize(requests.metadata_mut())?;
        }
        ready(&mut grpc).await?;
        grpc.streaming(requests, PathAndQuery::from_static(path), codec).await
    }
}

async fn unary<Q, A>(client: Client, mut request: tonic::Request<Q>, path: PathAndQuery) -> Answer<A>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let Client { mut grpc, token } = client;
    if let Some(token) = token {
        token.authorize(request.metadata_mut())?;
    }
    ready(&mut grpc).await?;
    grpc.unary(request, path, MessageCodec::<Q, A>::default()).await
}

/// Waits for the connection. The cause stays in the status, so that callers can tell why there is none.
async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| {
        let mut status = Status::unknown(format!("the connection is not ready: {error}"));
        status.set_source(std::sync::Arc::new(error));
        status
    })
}
