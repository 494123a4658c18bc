//! Serves every protocol on one port: gRPC, gRPC-Web and Connect, with health and reflection.

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use connectrpc::{Chain, ConnectRpcService, DeadlinePolicy, Router};
use connectrpc_reflection::Reflector;
use futures::{FutureExt, TryFutureExt};
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::Body as HttpBody;
use http_body_util::{Either, combinators::UnsyncBoxBody};
use ping_proto::{
    self as proto, EventServiceServer, LiveServiceServer, PingServiceServer, SourceServiceServer,
    health::HEALTH_SERVICE_NAME,
};
use ping_transport::{Body, Transport};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{
    Api, Health,
    access::{Access, Reflection},
    front::{Answer, Front},
    guard::Guard,
    limits::{self, SERVICES},
    measure::Measured,
};

/// How long a browser may remember that it may call: the longest that browsers accept.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(7_200);

/// Serves the API on `listener` until `shutdown`, then finishes the calls in progress.
///
/// # Errors
/// When the descriptors for reflection cannot be read.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    health: &Health,
    access: &Access,
    transport: Transport,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Each connection uses one lane, so its events are stored in the order it sent them.
    let services =
        api.per_lane().into_iter().map(|api| service(api, health, access.clone())).collect::<Result<_, _>>()?;
    ping_transport::serve(listener, services, transport, shutdown).await;
    Ok(())
}

/// The API as an HTTP service.
///
/// # Errors
/// When the descriptors for reflection cannot be read.
pub fn service<B>(api: Api, health: &Health, access: Access) -> anyhow::Result<impl HttpService<B>>
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let api = Arc::new(api);
    let pings = PingServiceServer::from_arc(Arc::clone(&api));
    let events = EventServiceServer::from_arc(Arc::clone(&api));
    let sources = SourceServiceServer::from_arc(Arc::clone(&api));
    let (metrics, traces) = (Arc::clone(&api.metrics), api.traces.clone());
    let shutdown = api.shutdown.clone();
    let live = LiveServiceServer::from_arc(api);
    let tools = tools(health, access.reflection())?;
    let dispatcher = Chain(pings, Chain(events, Chain(sources, Chain(live, tools))));
    let dispatcher = Measured(Guard { dispatcher, shutdown });
    let deadlines = DeadlinePolicy::new().with_enforce_on_streams(true);
    let service = ConnectRpcService::new(dispatcher).with_limits(limits::of("")).with_deadline_policy(deadlines);
    let cors = cors(access.origins());
    Ok(with_cors(Front { service, access, metrics, traces }, cors))
}

/// An HTTP service that answers every request.
pub trait HttpService<B>:
    Service<Request<Body<B>>, Response = Response<MaybeCors>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<B, S> HttpService<B> for S where
    S: Service<Request<Body<B>>, Response = Response<MaybeCors>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Health and reflection, for gRPC tools.
fn tools(health: &Health, reflection: Reflection) -> anyhow::Result<Router> {
    let router = health.register(Router::new());
    if reflection == Reflection::Off {
        return Ok(router);
    }
    let reflector = Reflector::from_descriptor_set_bytes(proto::DESCRIPTORS)?;
    let listed = SERVICES.into_iter().chain([HEALTH_SERVICE_NAME]);
    Ok(connectrpc_reflection::install(router, reflector.with_services(listed)))
}

/// The body of a response that passed through the CORS layer, or of one that did not.
pub type MaybeCors = Either<UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>, Answer>;

/// Passes requests with an `Origin`, which browsers send, through the CORS layer, if there is one. Answers to GET may be cached for other
/// callers, so they always say that they vary by `Origin`.
fn with_cors<S, B>(service: S, cors: Option<CorsLayer>) -> impl HttpService<B>
where
    S: Service<Request<Body<B>>, Response = Response<Answer>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    // The layer needs a body that can be empty.
    let boxed = service.clone().map_response(|response: Response<Answer>| response.map(UnsyncBoxBody::new));
    let for_browsers = cors.map(|cors| cors.layer(boxed));
    service_fn(move |request: Request<Body<B>>| {
        let may_be_for_browsers = request.method() == Method::GET || request.headers().contains_key(header::ORIGIN);
        if let Some(for_browsers) = for_browsers.as_ref().filter(|_| may_be_for_browsers) {
            let response = for_browsers.clone().call(request);
            return response.map_ok(|response| response.map(Either::Left)).left_future();
        }
        let response = service.clone().call(request);
        response.map_ok(|response| response.map(Either::Right)).right_future()
    })
}

/// Lets pages of `origins` call from a browser, with a token. Without the layer, browsers let only the server's own page call.
fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let exposed =
        ["grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after", "ping-outcome", "www-authenticate"];
    let allowed = [
        "authorization",
        "content-type",
        "content-encoding",
        "connect-protocol-version",
        "connect-timeout-ms",
        "connect-content-encoding",
        "connect-accept-encoding",
        "grpc-timeout",
        "traceparent",
        "tracestate",
        "x-grpc-web",
        "x-user-agent",
    ];
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_headers(allowed.map(HeaderName::from_static))
        .allow_methods([Method::GET, Method::POST])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(PREFLIGHT_MAX_AGE);
    Some(layer)
}
