//! What happens to a request before and after the protocol library: the web page, who may call, strictness about deadlines, and
//! readable answers where the protocols leave the body empty.

use std::{
    convert::Infallible,
    error::Error,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use connectrpc::{
    ConnectError, ConnectRpcBody, ConnectRpcService, Dispatcher, MethodKind, dispatcher::MethodDescriptor,
};
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Either, Full};
use ping_ports::Traces;
use ping_transport::{Account, Body, Complete, RequestScope, UnreadBody};
use tokio::time::timeout;
use tower::Service;

use super::{
    RpcMetrics,
    access::{Access, Admission, Reflection, Session},
    cloud_events,
    credit::StreamBody,
    deadline, errors, limits,
    measure::Timer,
    page,
    requirement::{self, Requirement},
};

/// Longest time for a unary call, including the time for its body to arrive. Callers may set a shorter deadline.
const UNARY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an unread body is read and discarded, so that the connection can be used again. A longer body closes it.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// How long to read an unread body.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The body of a response: of known length if it is complete.
pub type Answer = Either<Full<Bytes>, ConnectRpcBody>;

/// The HTTP service in front of the protocol library.
pub(super) struct Front<D> {
    pub(super) service: ConnectRpcService<D>,
    pub(super) access: Access,
    pub(super) metrics: Arc<RpcMetrics>,
    pub(super) traces: Traces,
}

impl<D> Clone for Front<D> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            access: self.access.clone(),
            metrics: Arc::clone(&self.metrics),
            traces: self.traces.clone(),
        }
    }
}

impl<D, B> Service<Request<Body<B>>> for Front<D>
where
    D: Dispatcher,
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Answer>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body<B>>) -> Self::Future {
        if let Err(error) = self.access.hosts().check(&request) {
            let refusal = complete(Protocol::of(request.headers()).answer(error));
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        if page::is_asked_for(request.method(), request.uri().path()) {
            let page = if self.access.is_page_open() { page::open() } else { page::locked() };
            return Box::pin(std::future::ready(Ok(page.map(Either::Left))));
        }
        lowercase_content_type(request.headers_mut());
        cloud_events::route(&mut request);
        let method = self.service.dispatcher().lookup(request.uri().path().trim_start_matches('/'));
        let timer = Timer::start(&self.metrics, &self.traces, method, request.headers());
        let exchange = Exchange::new(&request, timer);
        let method = match admit(&request, method) {
            Ok(method) => method,
            Err(error) => {
                drop(request);
                return exchange.refuse(error).boxed();
            }
        };
        match self.access.admit(&request, self.requirement(&request)) {
            Admission::Admitted(session) => self.respond(request, method, session, exchange),
            Admission::Refused(error) => {
                drop(request);
                exchange.refuse_caller(method.kind, error).boxed()
            }
            Admission::Waiting(admission) => {
                let mut front = self.clone();
                Box::pin(async move {
                    match admission.await {
                        Ok(session) => front.respond(request, method, session, exchange).await,
                        Err(error) => {
                            drop(request);
                            exchange.refuse_caller(method.kind, error).await
                        }
                    }
                })
            }
        }
    }
}

/// What is needed to answer a request after it is gone.
struct Exchange {
    timer: Timer,
    account: Option<Arc<Account>>,
    protocol: Protocol,
    version: Version,
    is_get: bool,
}

impl Exchange {
    fn new<B>(request: &Request<B>, timer: Timer) -> Self {
        Self {
            timer,
            account: request.extensions().get::<RequestScope>().map(|scope| Arc::clone(&scope.account)),
            protocol: Protocol::of(request.headers()),
            version: request.version(),
            is_get: request.method() == Method::GET,
        }
    }

    /// Answers with `error`, after the body has been read.
    async fn refuse(self, error: ConnectError) -> Result<Response<Answer>, Infallible> {
        self.timer.failed(&error);
        let response = self.protocol.answer(error);
        Ok(complete(drained(self.account, self.version, response).await))
    }

    /// Answers a call whose caller may not make it. By HTTP/2, the answer to a stream does not wait for its end.
    async fn refuse_caller(self, kind: MethodKind, error: ConnectError) -> Result<Response<Answer>, Infallible> {
        if kind != MethodKind::Unary && self.version >= Version::HTTP_2 {
            self.timer.failed(&error);
            return Ok(complete(self.protocol.answer(error)));
        }
        self.refuse(error).await
    }

    /// Answers a unary call.
    async fn finish(self, call: impl Future<Output = Response<ConnectRpcBody>>) -> Response<Answer> {
        let Self { timer, account, protocol, version, is_get } = self;
        let failed = |error: ConnectError| {
            timer.failed(&error);
            protocol.answer(error)
        };
        let mut response = match timeout(UNARY_TIMEOUT, call).await {
            Ok(response) => {
                timer.answered(response.status(), response.headers());
                explain(response)
            }
            Err(_) => failed(deadline::exceeded(UNARY_TIMEOUT)),
        };
        if account.as_ref().is_some_and(|account| account.is_exhausted()) {
            response = failed(errors::out_of_memory());
        }
        if is_get {
            // A cache must not give a compressed answer to a caller that cannot read it.
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        } else {
            response.headers_mut().remove(header::CACHE_CONTROL);
        }
        complete(drained(account, version, response).await)
    }
}

impl<D: Dispatcher> Front<D> {
    /// Passes an admitted request on.
    fn respond<B>(
        &mut self,
        mut request: Request<Body<B>>,
        method: MethodDescriptor,
        session: Session,
        exchange: Exchange,
    ) -> BoxFuture<'static, Result<Response<Answer>, Infallible>>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        request.extensions_mut().insert(session.traced(exchange.timer.trace()));
        request.extensions_mut().insert(exchange.timer.clone());
        let request = match (method.kind, &exchange.account, method.limits) {
            (MethodKind::BidiStreaming, Some(account), Some(limits)) => {
                StreamBody::of_stream(request, Arc::clone(account), limits::max_cost(limits))
            }
            _ => request.map(StreamBody::plain),
        };
        let call = catch_panic(self.service.call(request), exchange.protocol.clone());
        if method.kind != MethodKind::Unary {
            return Box::pin(async move {
                let response = call.await;
                exchange.timer.answered(response.status(), response.headers());
                Ok(complete(explain(response)))
            });
        }
        Box::pin(async move { Ok(exchange.finish(call).await) })
    }

    fn requirement<B>(&self, request: &Request<B>) -> Requirement {
        let path = request.uri().path().trim_start_matches('/');
        requirement::of_method(path, self.access.reflection() == Reflection::Open)
    }
}

/// The method of the request, or why it is refused before its body is read.
fn admit<B>(request: &Request<B>, method: Option<MethodDescriptor>) -> Result<MethodDescriptor, ConnectError> {
    let method = method.ok_or_else(|| {
        let path = request.uri().path();
        if path == cloud_events::PATH {
            return ConnectError::unsupported_media_type(cloud_events::MEDIA_TYPES);
        }
        let message = format!("unknown method {path}; try POST /ping.v1.PingService/Ping");
        ConnectError::unimplemented(message).with_http_status(StatusCode::NOT_FOUND)
    })?;
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_grpc = kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web");
    if is_grpc && request.version() < Version::HTTP_2 {
        // Its status would follow the body, in trailers that HTTP/1.1 proxies and clients drop.
        let message = "gRPC needs HTTP/2; use gRPC-Web or Connect over HTTP/1.1";
        return Err(ConnectError::unimplemented(message));
    }
    if method.kind != MethodKind::Unary && matches!(kind, b"application/json" | b"application/proto") {
        let message = "this method is a stream; send application/connect+json, application/connect+proto or gRPC";
        return Err(ConnectError::unsupported_media_type(message));
    }
    deadline::check(request.headers())?;
    Ok(method)
}

/// A defect in one call must not close the connection, which carries other calls.
async fn catch_panic(
    call: impl Future<Output = Result<Response<ConnectRpcBody>, Infallible>>,
    protocol: Protocol,
) -> Response<ConnectRpcBody> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(Ok(response)) => response,
        // The panic itself is in the log.
        Err(_) => protocol.answer(errors::defect()),
    }
}

/// Media types are case-insensitive.
fn lowercase_content_type(headers: &mut HeaderMap) {
    let Some(value) = headers.get_mut(header::CONTENT_TYPE) else { return };
    if !value.as_bytes().iter().any(u8::is_ascii_uppercase) {
        return;
    }
    if let Ok(lowercase) = HeaderValue::from_bytes(&value.as_bytes().to_ascii_lowercase()) {
        *value = lowercase;
    }
}

/// In which form an error is written: the protocol library reads it from the request's media type.
#[derive(Clone)]
pub(super) struct Protocol(Option<HeaderValue>);

impl Protocol {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get(header::CONTENT_TYPE).cloned())
    }

    pub(super) fn answer(&self, error: ConnectError) -> Response<ConnectRpcBody> {
        let headers = self.0.iter().map(|value| (header::CONTENT_TYPE, value.clone())).collect();
        error.into_http_response(&headers)
    }
}

/// Reads what is left of the body before the response is sent: a client that is still sending would otherwise see a broken connection,
/// or take it for the answer to its next request. A body that does not end soon closes the connection, and the response says so.
async fn drained(
    account: Option<Arc<Account>>,
    version: Version,
    mut response: Response<ConnectRpcBody>,
) -> Response<ConnectRpcBody> {
    let Some(unread) = account.and_then(|account| account.take_unread()) else { return response };
    let is_read = timeout(DRAIN_TIME, drain(unread)).await.unwrap_or(false);
    if !is_read && version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Discards a body; false if it is too long or fails.
async fn drain(mut unread: UnreadBody) -> bool {
    let mut bytes = 0;
    while let Some(frame) = unread.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DRAIN_BYTES {
            return false;
        }
    }
    true
}

/// Adds a text to answers that say what is wrong by their status alone.
fn explain(mut response: Response<ConnectRpcBody>) -> Response<ConnectRpcBody> {
    let text = match response.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            "the content type is not supported; send application/json, application/proto, application/connect+json, \
             application/connect+proto, or gRPC\n"
        }
        StatusCode::METHOD_NOT_ALLOWED => "this method needs POST, with Content-Type: application/json\n",
        _ => return response,
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().entry(header::ALLOW).or_insert(HeaderValue::from_static("POST"));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    *response.body_mut() = ConnectRpcBody::Full(Full::new(Bytes::from_static(text.as_bytes())));
    response
}

/// Gives a complete body its length: otherwise HTTP/1.1 sends it in chunks. An error by gRPC becomes one block of headers: the library
/// writes its status into headers and trailers, but its details into the trailers only, which clients then do not read.
pub(super) fn complete(mut response: Response<ConnectRpcBody>) -> Response<Answer> {
    if response.headers().contains_key("grpc-status")
        && let Some(Some(Ok(frame))) = response.body_mut().frame().now_or_never()
        && let Ok(trailers) = frame.into_trailers()
    {
        response.headers_mut().extend(trailers);
        return response.map(|_| Either::Left(Full::default()));
    }
    if matches!(response.body(), ConnectRpcBody::GrpcUnary(_)) {
        response.extensions_mut().insert(Complete);
    }
    response.map(|body| match body {
        ConnectRpcBody::Full(body) => Either::Left(body),
        body => Either::Right(body),
    })
}
