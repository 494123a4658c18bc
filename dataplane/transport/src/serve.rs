//! The accept loop: HTTP/1.1 and HTTP/2 on one port.

use std::{convert::Infallible, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    select,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use crate::{
    Account, Body, Budget, PeerCertificate, RequestScope, Tls, TransportMetrics, TransportSettings, TrustedProxies,
    connections::{ActiveRequest, Activity, Connections, OpenConnection},
    response::{Complete, ResponseBody, Unsent},
    stream::with_write_timeout,
    tls::{Handshake, handshake},
};

/// HTTP/2 flow-control window of one stream, in bytes: what a client may send before the server reads it.
///
/// It is much smaller than [`CONNECTION_WINDOW_BYTES`] because h2 closes a connection on which too many small frames wait. Each frame
/// costs 256 bytes minus its length, and the limit is half of the connection window. With hyper's default of 1 MiB for both windows,
/// a client that streams single events faster than they are stored would be disconnected after 2,500 events of 60 bytes. With these
/// values, a full stream window of such events uses a fortieth of the limit, so flow control slows the client down first.
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// HTTP/2 flow-control window of all streams of a connection together, in bytes. What a connection may hold is bounded by its streams.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Size of the headers of a request, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Buffer of an HTTP/1.1 connection, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long a body, or a message of a stream, waits for the budget.
pub const BUDGET_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failure to accept, e.g. because the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Resets that may wait at once before the connection is closed, per stream that may be open: a client that cancels all its calls is
/// no attacker.
const PENDING_RESETS_PER_STREAM: usize = 2;

/// What all connections share.
#[derive(Clone)]
pub struct Transport {
    /// The limits.
    pub settings: TransportSettings,
    /// The memory that all requests together may hold.
    pub budget: Budget,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub proxies: TrustedProxies,
    /// Utilisation of the limits.
    pub metrics: Arc<TransportMetrics>,
    /// None for plaintext.
    pub tls: Option<Tls>,
}

impl Transport {
    /// A plaintext transport with these limits.
    #[must_use]
    pub fn new(settings: TransportSettings, proxies: TrustedProxies, metrics: Arc<TransportMetrics>) -> Self {
        let budget = Budget::new(settings.memory_bytes, Arc::clone(&metrics));
        Self { settings, budget, proxies, metrics, tls: None }
    }

    /// The same transport with TLS, or without.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }
}

/// Serves `services` on `listener` until `shutdown`, then finishes the requests in progress. Each connection uses one of the services,
/// in turn. When the returned future is dropped, all connections are closed.
pub async fn serve<S, B>(listener: TcpListener, services: Vec<S>, transport: Transport, shutdown: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let connections = Connections::new(&transport.settings, Arc::clone(&transport.metrics));
    let tasks = TaskTracker::new();
    let dropped = CancellationToken::new();
    let _dropped = dropped.clone().drop_guard();
    for service in services.iter().cycle() {
        let (stream, peer, open) = select! {
            accepted = accept(&listener, &connections, &transport.proxies) => accepted,
            () = shutdown.cancelled() => break,
        };
        let (service, transport, shutdown) = (service.clone(), transport.clone(), shutdown.clone());
        let dropped = dropped.clone();
        tasks.spawn(async move {
            let _open = open;
            dropped.run_until_cancelled(serve_connection(stream, peer, service, transport, shutdown)).await;
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// The next connection that is within the limits. Others are closed at once.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Connections>,
    proxies: &TrustedProxies,
) -> (TcpStream, SocketAddr, OpenConnection) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                if let Some(open) = connections.admit(address, proxies.is_trusted(address)) {
                    return (stream, peer, open);
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only the accepted connection failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection, after its handshake if it has one.
async fn serve_connection<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    transport: Transport,
    shutdown: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Otherwise a response waits for the caller's delayed TCP acknowledgement, up to 48 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let peer_timeout = transport.settings.peer_timeout;
    let Some(tls) = transport.tls.clone() else {
        let connection = Connection { peer, certificate: None, service, transport };
        return connection.serve(with_write_timeout(stream, peer_timeout), shutdown).await;
    };
    let secured = timeout(transport.settings.header_timeout, handshake(stream, peer_timeout, &tls));
    let secured = select! {
        secured = secured => secured,
        () = shutdown.cancelled() => return,
    };
    let cause = match secured {
        Ok(Ok(Handshake { stream, certificate })) => {
            return Connection { peer, certificate, service, transport }.serve(stream, shutdown).await;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    transport.metrics.close("handshake");
    tracing::debug!(cause, %peer, "a TLS handshake failed");
}

/// One connection, and what serves its requests.
struct Connection<S> {
    peer: SocketAddr,
    certificate: Option<Arc<PeerCertificate>>,
    service: S,
    transport: Transport,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Serves it until it ends, is idle for too long, does not read complete answers, or `shutdown`.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shutdown: CancellationToken) {
        let metrics = Arc::clone(&self.transport.metrics);
        let activity = Activity::new(Arc::clone(&metrics));
        let peer_timeout = self.transport.settings.peer_timeout;
        select! {
            () = self.serve_requests(stream, Arc::clone(&activity), shutdown) => {}
            () = activity.unread_for(peer_timeout) => metrics.close("unread"),
        }
    }

    async fn serve_requests(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        activity: Arc<Activity>,
        shutdown: CancellationToken,
    ) {
        let Self { peer, certificate, service, transport } = self;
        let settings = transport.settings.clone();
        let metrics = Arc::clone(&transport.metrics);
        let requests = Requests { service, peer, certificate, transport, activity: Arc::clone(&activity) };
        let http = builder(&settings);
        let connection = http.serve_connection(TokioIo::new(stream), service_fn(move |request| requests.call(request)));
        tokio::pin!(connection);
        let ended = select! {
            ended = connection.as_mut() => Some(ended),
            () = shutdown.cancelled() => None,
            () = activity.idle_for(settings.header_timeout, settings.idle_timeout) => {
                metrics.close("idle");
                None
            }
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                finish(connection, &activity, settings.peer_timeout).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, %peer, "a connection ended with an error");
        }
    }
}

/// Finishes the requests in progress, then waits for the peer to close the connection, but not for long.
async fn finish<E>(
    connection: impl Future<Output = Result<(), E>>,
    activity: &Activity,
    peer_timeout: Duration,
) -> Result<(), E> {
    select! {
        ended = connection => ended,
        () = activity.idle_for(peer_timeout, peer_timeout) => Ok(()),
    }
}

fn builder(settings: &TransportSettings) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        // Includes the wait for the next request. The first one has less time: see `Activity`.
        .header_read_timeout(settings.idle_timeout)
        .max_buf_size(BUFFER_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(settings.streams_per_connection)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_PER_STREAM * settings.streams_per_connection as usize)
        .max_send_buf_size(BUFFER_BYTES)
        .keep_alive_interval(settings.peer_timeout)
        .keep_alive_timeout(settings.peer_timeout);
    http
}

/// The requests of one connection.
struct Requests<S> {
    service: S,
    peer: SocketAddr,
    certificate: Option<Arc<PeerCertificate>>,
    transport: Transport,
    activity: Arc<Activity>,
}

impl<S, B> Requests<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody + Unpin + Send + 'static,
{
    fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, Result<Response<ResponseBody<B>>, Infallible>> {
        let active = self.activity.begin();
        let Some(account) = Account::open(self.transport.budget.clone()) else {
            return futures::future::ready(Ok(out_of_memory())).boxed();
        };
        let account = Arc::new(account);
        let idle_timeout = self.transport.settings.idle_timeout;
        let mut request =
            request.map(|incoming| Body::new(incoming, Arc::clone(&account), BUDGET_TIMEOUT, idle_timeout).kept());
        let scope = RequestScope::new(Arc::clone(&account), self.peer, self.transport.proxies.clone())
            .with_certificate(self.certificate.clone());
        request.extensions_mut().insert(scope);
        let response = self.service.clone().call(request);
        response.map(|response| response.map(|response| charged(response, active, account))).boxed()
    }
}

/// The response, charged until it is sent if it is complete. A stream charges for what it sends.
fn charged<B: HttpBody>(
    response: Response<B>,
    request: ActiveRequest,
    account: Arc<Account>,
) -> Response<ResponseBody<B>> {
    let bytes = response.body().size_hint().exact();
    if bytes.is_none() && response.extensions().get::<Complete>().is_none() {
        return response.map(|body| ResponseBody::new(body, Unsent { request, _answer: None }));
    }
    // No one reads it any more.
    drop(account.take_unread());
    if bytes.is_some_and(|bytes| !account.hold_answer(usize::try_from(bytes).unwrap_or(usize::MAX))) {
        return out_of_memory();
    }
    let unsent = Unsent { request: request.answered(), _answer: Some(account) };
    response.map(|body| ResponseBody::new(body, unsent))
}

/// The answer when not even the headers of a request can be charged, or the real answer cannot. Clients of every protocol map the status
/// to a code.
fn out_of_memory<B>() -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
