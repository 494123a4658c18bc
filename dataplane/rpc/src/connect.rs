//! Unary calls by the Connect protocol, as `curl` sends them: JSON and binary bodies, errors as `{"code","message"}`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderValue, Method, StatusCode, header};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status};

use super::{Api, caller::CallerAddress, errors::connect_code, json_error};
use ping_proto as proto;

/// Maximum size of a request with one query or event, in bytes.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Maximum size of a batch, in bytes: 10,000 events with ids and sources fit.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// The encoding of a body; the response has that of the request.
#[derive(Clone, Copy)]
enum Encoding {
    Json,
    Proto,
}

/// A route per method; the other paths and HTTP methods get an error of the protocol.
pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/ping.v1.PingService/Ping", post(ping).fallback(only_post))
        .route("/ping.v1.PingService/PingCount", post(ping_count).fallback(only_post))
        .route("/ping.v1.PingService/Verify", post(verify).fallback(only_post))
        .route("/ping.v1.PingService/StreamPings", post(streams_need_grpc).fallback(streams_need_grpc))
        .route("/ping.v1.EventService/Record", post(record).fallback(only_post))
        .route("/ping.v1.EventService/RecordBatch", post(record_batch).fallback(only_post))
        .route("/ping.v1.EventService/RecordStream", post(streams_need_grpc).fallback(streams_need_grpc))
        .route("/ping.v1.SourceService/SourceStats", post(source_stats).fallback(only_post))
        .route("/ping.v1.SourceService/TopSources", post(top_sources).fallback(only_post))
        .route("/ping.v1.SourceService/GetStatus", post(get_status).fallback(only_post))
        .route("/ping.v1.SourceService/Series", post(series).fallback(only_post))
        .fallback(unknown_method)
        .with_state(Arc::new(api))
}

async fn ping(State(api): State<Arc<Api>>, request: Request) -> Response {
    unary(request, MAX_REQUEST_BYTES, async |message, _| api.ping(message).await).await
}

async fn ping_count(State(api): State<Arc<Api>>, request: Request) -> Response {
    unary(request, MAX_REQUEST_BYTES, async |message, timeout| api.ping_count(message, timeout).await).await
}

async fn verify(State(api): State<Arc<Api>>, request: Request) -> Response {
    unary::<proto::VerifyRequest, _>(request, MAX_REQUEST_BYTES, async |message, _| api.verify(message).await).await
}

async fn record(State(api): State<Arc<Api>>, request: Request) -> Response {
    let caller = caller(&request);
    unary(request, MAX_REQUEST_BYTES, async |message, _| api.record(message, &caller).await).await
}

async fn record_batch(State(api): State<Arc<Api>>, request: Request) -> Response {
    let caller = caller(&request);
    unary(request, MAX_BATCH_BYTES, async |message, _| api.record_batch(message, &caller).await).await
}

async fn source_stats(State(api): State<Arc<Api>>, request: Request) -> Response {
    unary(request, MAX_REQUEST_BYTES, async |message, _| api.source_stats(message).await).await
}

async fn top_sources(State(api): State<Arc<Api>>, request: Request) -> Response {
    unary(request, MAX_REQUEST_BYTES, async |message, _| api.top_sources(message).await).await
}

async fn get_status(State(api): State<Arc<Api>>, request: Request) -> Response {
    unary(request, MAX_REQUEST_BYTES, async |message, _| api.get_status(message).await).await
}

async fn series(State(api): State<Arc<Api>>, request: Request) -> Response {
    unary(request, MAX_REQUEST_BYTES, async |message, _| api.series(message).await).await
}

/// The caller's address, as determined by `serve`.
fn caller(request: &Request) -> CallerAddress {
    request.extensions().get().cloned().unwrap_or_default()
}

async fn only_post(method: Method) -> Response {
    let message = format!("{method} is not supported here; use POST with Content-Type: application/json");
    let mut response = error(&Status::unimplemented(message));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

async fn streams_need_grpc() -> Response {
    error(&Status::unimplemented("this method is a bidirectional stream; call it by gRPC on the same port"))
}

async fn unknown_method(request: Request) -> Response {
    let message = format!("unknown method {}; try POST /ping.v1.PingService/Ping", request.uri().path());
    let mut response = error(&Status::unimplemented(message));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Decodes the request, calls the method, and encodes its response.
async fn unary<Q, A>(
    request: Request,
    max_bytes: usize,
    call: impl AsyncFnOnce(Q, Option<Duration>) -> Result<A, Status>,
) -> Response
where
    Q: Message + DeserializeOwned + Default,
    A: Message + Serialize,
{
    let (parts, body) = request.into_parts();
    let encoding = match parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) {
        Some(kind) if kind.starts_with(b"application/json") => Encoding::Json,
        Some(kind) if kind.starts_with(b"application/proto") => Encoding::Proto,
        _ => return unsupported(),
    };
    if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        return error(&Status::unimplemented("compressed requests are not supported; send an uncompressed body"));
    }
    let timeout = parts.headers.get("connect-timeout-ms").and_then(|value| value.to_str().ok()?.parse().ok());
    let answer = match read(encoding, body, max_bytes).await {
        Ok(message) => call(message, timeout.map(Duration::from_millis)).await,
        Err(status) => Err(status),
    };
    match answer.and_then(|answer| write(encoding, &answer)) {
        Ok(response) => response,
        Err(status) => error(&status),
    }
}

fn unsupported() -> Response {
    let message = "the content type is not supported; send application/json, application/proto or gRPC";
    let mut response = error(&Status::invalid_argument(message));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert("accept-post", HeaderValue::from_static("application/json, application/proto"));
    response
}

async fn read<Q: Message + DeserializeOwned + Default>(
    encoding: Encoding,
    body: Body,
    max_bytes: usize,
) -> Result<Q, Status> {
    let bytes = to_bytes(body, max_bytes).await.map_err(|error| {
        Status::invalid_argument(format!("cannot read the body (at most {max_bytes} bytes): {error}"))
    })?;
    match encoding {
        Encoding::Proto => Q::decode(bytes).map_err(|error| {
            Status::invalid_argument(format!("the body is not the expected Protobuf message: {error}"))
        }),
        Encoding::Json if bytes.is_empty() => Ok(Q::default()),
        Encoding::Json => serde_json::from_slice(&bytes)
            .map_err(|error| Status::invalid_argument(json_error::describe::<Q>(&bytes, &error))),
    }
}

fn write<A: Message + Serialize>(encoding: Encoding, answer: &A) -> Result<Response, Status> {
    let (content_type, body) = match encoding {
        Encoding::Proto => ("application/proto", answer.encode_to_vec()),
        Encoding::Json => {
            let json = serde_json::to_vec(answer).map_err(|error| Status::internal(error.to_string()))?;
            ("application/json", json)
        }
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response())
}

#[derive(Serialize)]
struct ConnectError<'a> {
    code: &'static str,
    message: &'a str,
}

/// The status as Connect JSON, its metadata as headers.
fn error(status: &Status) -> Response {
    let (code, http) = connect_code(match status.code() {
        Code::Ok => Code::Internal,
        code => code,
    });
    let body = serde_json::to_vec(&ConnectError { code, message: status.message() }).unwrap_or_default();
    let mut response = (http, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    for (name, value) in status.metadata().clone().into_headers() {
        if let Some(name) = name {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
