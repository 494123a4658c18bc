//! The service that the suite calls.

use std::{convert::Infallible, error::Error};

use bytes::Bytes;
use connectrpc::{
    CompressionPolicy, ConnectRpcBody, ConnectRpcService, DeadlinePolicy, InboundStream, Limits, RequestContext,
    Response, ServiceRequest, ServiceResult, ServiceStream, http_body::Body,
};
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use tower::{Service, ServiceExt};

use crate::{
    echo::{Echo, keep_query},
    proto::{
        BidiStreamRequest, BidiStreamResponse, ClientStreamRequest, ClientStreamResponse, ConformanceService,
        ConformanceServiceServer, IdempotentUnaryRequest, IdempotentUnaryResponse, ServerStreamRequest,
        ServerStreamResponse, UnaryRequest, UnaryResponse,
    },
    reply::reply,
    responses::respond,
};

/// The service over HTTP, for messages of at most `receive_limit` bytes. 0 means no limit.
pub(crate) fn http_service<B>(
    receive_limit: u32,
) -> impl Service<Request<B>, Response = http::Response<ConnectRpcBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static
where
    B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + 'static,
{
    let limits = match receive_limit {
        0 => Limits::unlimited(),
        bytes => Limits::unlimited().with_max_message_size(bytes as usize),
    };
    ConnectRpcService::new(ConformanceServiceServer::new(Conformance))
        .with_limits(limits)
        // By default, responses as short as the suite's are not compressed.
        .with_compression_policy(CompressionPolicy::default().with_min_size(0))
        // By default, a deadline only bounds the time to the first response.
        .with_deadline_policy(DeadlinePolicy::new().with_enforce_on_streams(true))
        .map_request(keep_query)
}

/// Stateless: each call says how to answer it.
struct Conformance;

#[allow(refining_impl_trait, reason = "the trait would also allow other bodies")]
impl ConformanceService for Conformance {
    async fn unary(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, UnaryRequest>,
    ) -> ServiceResult<UnaryResponse> {
        let mut echo = Echo::new(&context);
        echo.add::<UnaryRequest>(request.bytes());
        let definition = request.to_owned_message().response_definition.into_option();
        let response = reply(definition.unwrap_or_default(), echo).await?;
        Ok(response.map_body(|payload| UnaryResponse { payload: payload.into() }))
    }

    async fn idempotent_unary(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, IdempotentUnaryRequest>,
    ) -> ServiceResult<IdempotentUnaryResponse> {
        let mut echo = Echo::new(&context);
        echo.add::<IdempotentUnaryRequest>(request.bytes());
        let definition = request.to_owned_message().response_definition.into_option();
        let response = reply(definition.unwrap_or_default(), echo).await?;
        Ok(response.map_body(|payload| IdempotentUnaryResponse { payload: payload.into() }))
    }

    async fn client_stream(
        &self,
        context: RequestContext,
        mut requests: InboundStream<ClientStreamRequest>,
    ) -> ServiceResult<ClientStreamResponse> {
        let mut echo = Echo::new(&context);
        let mut definition = None;
        while let Some(request) = requests.try_next().await? {
            echo.add::<ClientStreamRequest>(request.bytes());
            definition.get_or_insert_with(|| request.to_owned_message().response_definition.into_option());
        }
        let response = reply(definition.flatten().unwrap_or_default(), echo).await?;
        Ok(response.map_body(|payload| ClientStreamResponse { payload: payload.into() }))
    }

    async fn server_stream(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, ServerStreamRequest>,
    ) -> ServiceResult<ServiceStream<ServerStreamResponse>> {
        let mut echo = Echo::new(&context);
        echo.add::<ServerStreamRequest>(request.bytes());
        let definition = request.to_owned_message().response_definition.into_option();
        respond(definition.unwrap_or_default(), echo, stream::empty().boxed(), |payload| ServerStreamResponse {
            payload: payload.into(),
        })
    }

    async fn bidi_stream(
        &self,
        context: RequestContext,
        requests: InboundStream<BidiStreamRequest>,
    ) -> ServiceResult<ServiceStream<BidiStreamResponse>> {
        let mut requests = requests.fuse().boxed();
        let mut echo = Echo::new(&context);
        let Some(first) = requests.try_next().await? else { return Response::stream_ok(stream::empty()) };
        echo.add::<BidiStreamRequest>(first.bytes());
        let first = first.to_owned_message();
        if !first.full_duplex {
            while let Some(request) = requests.try_next().await? {
                echo.add::<BidiStreamRequest>(request.bytes());
            }
        }
        let definition = first.response_definition.into_option().unwrap_or_default();
        respond(definition, echo, requests, |payload| BidiStreamResponse { payload: payload.into() })
    }
}
