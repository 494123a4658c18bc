//! One port for everything: the content type says which protocol a request speaks.

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

/// Longest message of a stream, in bytes: 10,000 pings with ids and sources fit.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;
/// What a stream may send ahead of us, and all of a connection together, in bytes. Half of the latter is what h2 lets small frames
/// wait for, by what each is shorter than 256 bytes, before it ends the connection: whoever streams single events faster than they
/// are stored would not be slowed down, but cut off. With hyper's 1 MiB for each that were 2,500 events of 60 bytes; a window of
/// these full of such events is a twentieth of what may wait.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Serves the API on `listener` until `shutdown`; calls under way are finished first. `health` answers
/// `grpc.health.v1`; `proxies` are believed about whom they call for.
///
/// # Errors
/// When reflection cannot be set up.
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
        let pings = PingServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE);
        let events = EventServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE);
        let sources = SourceServiceServer::new(api.clone());
        let grpc = Routes::new(pings)
            .add_service(events)
            .add_service(sources)
            .add_service(health.clone())
            .add_service(reflection.clone())
            .into_axum_router();
        let grpc = Router::new().fallback_service(GrpcWebLayer::new().layer(grpc));
        by_protocol(grpc, connect::router(api).merge(page::router()))
    };
    let services: Vec<_> = api.per_lane().into_iter().map(service).collect();
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2().initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let connections = GracefulShutdown::new();
    // A connection keeps to one lane, so that events stay in the order in which it sent them.
    for service in services.iter().cycle() {
        let (stream, peer) = select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = shutdown.cancelled() => break,
        };
        // Without it, answers wait up to 48 ms for the caller's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
        let service = FromPeer { peer, proxies: proxies.clone(), service: service.clone() }
            .map_request(|request: http::Request<Incoming>| request.map(Body::new));
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, %peer, "a connection ended");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
}

/// Paths of methods that take the caller's address for a source.
const EVENTS: &str = "/ping.v1.EventService/";

/// Notes who calls, for the methods that want to know.
#[derive(Clone)]
struct FromPeer<S> {
    peer: SocketAddr,
    proxies: TrustedProxies,
    service: S,
}

impl<S: Service<Request>> Service<Request> for FromPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if request.uri().path().starts_with(EVENTS) {
            let caller = self.proxies.caller(self.peer, request.headers());
            request.extensions_mut().insert(caller);
        }
        self.service.call(request)
    }
}

/// gRPC and gRPC-Web to the one, everything else to the other. Only pages ask across origins; whoever else calls does not pay
/// for the headers.
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
    let from_pages = (cors().layer(grpc.clone()), cors().layer(connect.clone()));
    // The service is cloned for every call.
    let routes = Arc::new((from_pages, grpc, connect));
    service_fn(move |request: Request| {
        let (from_pages, grpc, connect) = routes.as_ref();
        let kind = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if request.headers().contains_key(header::ORIGIN) {
            let (grpc, connect) = from_pages.clone();
            let answer = if is_grpc { grpc.oneshot(request) } else { connect.oneshot(request) };
            return Either::Left(answer.map_ok(|response| response.map(Body::new)));
        }
        Either::Right(if is_grpc { grpc.clone() } else { connect.clone() }.oneshot(request))
    })
}

/// Browsers may call from any page: there is nothing here that a cookie would open.
fn cors() -> CorsLayer {
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    CorsLayer::new().allow_origin(Any).allow_headers(Any).allow_methods(Any).expose_headers(exposed)
}
