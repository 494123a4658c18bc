//! Serves every protocol on one port; the content type of a request decides which one it uses.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::Request, response::Response, serve::Listener};
use futures::{TryFutureExt, future::Either};
use http::{HeaderName, header};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, select};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::cors::{Any, CorsLayer};

use super::{Api, TrustedProxies, connect, page};
use ping_proto::{
    self as proto, event_service_server::EventServiceServer, ping_service_server::PingServiceServer,
    source_service_server::SourceServiceServer,
};

/// Maximum size of a message in a stream, in bytes: 10,000 events with ids and sources fit.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// HTTP/2 flow-control window of one stream, in bytes: what a client may send before the server reads it.
///
/// It is much smaller than [`CONNECTION_WINDOW_BYTES`] because h2 closes a connection on which too many small frames wait. Each frame
/// costs 256 bytes minus its length, and the limit is half of the connection window. With hyper's default of 1 MiB for both windows,
/// a client that streams single events faster than they are stored would be disconnected after 2,500 events of 60 bytes. With these
/// values, a full stream window of such events uses a twentieth of the limit, so flow control slows the client down first.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// HTTP/2 flow-control window of all streams of a connection together, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Serves the API on `listener` until `shutdown`, then finishes the calls in progress. `health` answers `grpc.health.v1`; `proxies`
/// may forward the addresses of their callers.
///
/// # Errors
/// When the descriptors for reflection cannot be read.
pub async fn serve(
    mut listener: TcpListener,
    api: Api,
    proxies: TrustedProxies,
    health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let service = |api: Api| {
        let grpc = grpc_routes(&api).add_service(health.clone()).add_service(reflection.clone()).into_axum_router();
        let grpc = Router::new().fallback_service(GrpcWebLayer::new().layer(grpc));
        by_protocol(grpc, connect::router(api).merge(page::router()))
    };
    let services: Vec<_> = api.per_lane().into_iter().map(service).collect();
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let connections = GracefulShutdown::new();
    // Each connection uses one lane, so its events are stored in the order it sent them.
    for service in services.iter().cycle() {
        let (stream, peer) = select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = shutdown.cancelled() => break,
        };
        // Otherwise a response waits for the caller's delayed TCP acknowledgement, up to 48 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let service = WithCallerAddress { peer, proxies: proxies.clone(), service: service.clone() }
            .map_request(|request: http::Request<Incoming>| request.map(Body::new));
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, %peer, "a connection ended with an error");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
}

fn grpc_routes(api: &Api) -> Routes {
    let pings = PingServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let events = EventServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let sources = SourceServiceServer::new(api.clone());
    Routes::new(pings).add_service(events).add_service(sources)
}

/// Path prefix of the methods that use the caller's address as the source of events that have none.
const EVENT_SERVICE_PREFIX: &str = "/ping.v1.EventService/";

/// Adds a [`CallerAddress`](super::caller::CallerAddress) to the extensions of requests that need it.
#[derive(Clone)]
struct WithCallerAddress<S> {
    peer: SocketAddr,
    proxies: TrustedProxies,
    service: S,
}

impl<S: Service<Request>> Service<Request> for WithCallerAddress<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if request.uri().path().starts_with(EVENT_SERVICE_PREFIX) {
            let caller = self.proxies.caller(self.peer, request.headers());
            request.extensions_mut().insert(caller);
        }
        self.service.call(request)
    }
}

/// Routes gRPC and gRPC-Web to `grpc` and everything else to `connect`. Only requests with an `Origin`, which browsers send, pass the
/// CORS layer; other clients do not pay for its headers.
fn by_protocol(
    grpc: Router,
    connect: Router,
) -> impl Service<
    Request,
    Response = Response,
    Error = Infallible,
    Future = impl Future<Output = Result<Response, Infallible>> + Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let with_cors = (cors().layer(grpc.clone()), cors().layer(connect.clone()));
    // Cloned for every request, so share the routers.
    let routes = Arc::new((with_cors, grpc, connect));
    service_fn(move |request: Request| {
        let (with_cors, grpc, connect) = routes.as_ref();
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if request.headers().contains_key(header::ORIGIN) {
            let (grpc, connect) = with_cors.clone();
            let response = if is_grpc { grpc.oneshot(request) } else { connect.oneshot(request) };
            return Either::Left(response.map_ok(|response| response.map(Body::new)));
        }
        Either::Right(if is_grpc { grpc.clone() } else { connect.clone() }.oneshot(request))
    })
}

/// Lets browsers call from any page: the API has no cookies or credentials that a page could misuse.
fn cors() -> CorsLayer {
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    CorsLayer::new().allow_origin(Any).allow_headers(Any).allow_methods(Any).expose_headers(exposed)
}
