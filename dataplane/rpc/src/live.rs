//! `LiveService`: converts its messages and watches the read path.

mod changes;

use std::{sync::Arc, time::Duration};

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use futures::stream;
use http::{HeaderName, HeaderValue};
use ping_identity::Extent;
use ping_ports::Clock;
use ping_proto::{ComponentState, LiveService, WatchRequest, WatchResponse};
use ping_query::{LIVE_MINUTES, LIVE_SOURCES, Watcher};
use ping_runtime::admin::Readiness;
use ping_transport::{RequestScope, STREAM_WINDOW_BYTES};
use tokio::time::{Instant, timeout_at};

use super::{Api, RpcMetrics, access::Session, errors};
use changes::{LiveState, Wanted};

/// Longest pause between two messages. A caller that receives none for several of these has lost its connection.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Asks nginx, and what understands its headers, to pass messages on as they come.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

impl LiveService for Api {
    async fn watch(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, WatchRequest>,
    ) -> ServiceResult<ServiceStream<WatchResponse>> {
        // A total has no source, and the ranking names all.
        let session = Session::of(&context)?.clone();
        session.authorize_read(Extent::All)?;
        let wanted = Wanted {
            minutes: within("minutes", request.minutes, LIVE_MINUTES)?,
            top_sources: within("top_sources", request.top_sources, LIVE_SOURCES)?,
        };
        let scope = context.extensions().get::<RequestScope>().cloned();
        // What waits to be sent to a caller that reads slowly.
        if scope.as_ref().is_some_and(|scope| !scope.account.try_hold(STREAM_WINDOW_BYTES as usize)) {
            return Err(errors::out_of_memory());
        }
        let watcher = self.live()?.watch(wanted.minutes > 0, wanted.top_sources > 0);
        let watcher = watcher.map_err(|error| errors::query(&error))?;
        let watch = Watch {
            watcher,
            wanted,
            session,
            clock: Arc::clone(&self.clock),
            database: self.database.clone(),
            sent: None,
            _open: OpenWatch::new(&self.metrics),
            _scope: scope,
        };
        let messages = stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(message) => Some((Ok(message), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Response::stream(messages).with_header(UNBUFFERED.0, UNBUFFERED.1))
    }
}

/// A number that a request may have in this field: 0 to `max`.
fn within(field: &str, value: i32, max: usize) -> Result<usize, ConnectError> {
    usize::try_from(value)
        .ok()
        .filter(|value| *value <= max)
        .ok_or_else(|| errors::invalid_field(field, format!("{field} must be between 0 and {max}; it is {value}")))
}

/// A stream that is counted in `ping_rpc_watchers`.
struct OpenWatch(Arc<RpcMetrics>);

impl OpenWatch {
    fn new(metrics: &Arc<RpcMetrics>) -> Self {
        metrics.watchers.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.watchers.dec();
    }
}

/// One stream.
struct Watch {
    watcher: Watcher,
    wanted: Wanted,
    session: Session,
    clock: Arc<dyn Clock>,
    database: Option<Readiness>,
    /// What the caller has seen, and when it was sent.
    sent: Option<(LiveState, Instant)>,
    /// Counts the stream while it is open.
    _open: OpenWatch,
    /// What the stream holds of the budget.
    _scope: Option<RequestScope>,
}

impl Watch {
    /// The next message, once something has changed or the last one is old.
    async fn next(&mut self) -> Result<WatchResponse, ConnectError> {
        loop {
            let Some(seen) = self.look()? else {
                self.watcher.changed().await;
                continue;
            };
            let due = self.sent.as_ref().is_none_or(|(before, at)| seen.differs(before) || at.elapsed() >= HEARTBEAT);
            if due {
                // The credentials may have expired, and the access policy may have changed.
                self.session = self.session.renewed()?;
                self.session.authorize_read(Extent::All)?;
                let before = self.sent.as_ref().map(|(before, _)| before);
                let message = seen.message(before, self.wanted, self.clock.now());
                self.sent = Some((seen, Instant::now()));
                return Ok(message);
            }
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        match &self.sent {
            None => self.watcher.changed().await,
            // Either way there is something to look at.
            Some((_, at)) => _ = timeout_at(*at + HEARTBEAT, self.watcher.changed()).await,
        }
    }

    /// What there is to see now; none before the first poll.
    fn look(&mut self) -> Result<Option<LiveState>, ConnectError> {
        let Some(counted) = self.watcher.count() else { return Ok(None) };
        let live = counted.map_err(|error| errors::unavailable(&error))?;
        let database = match &self.database {
            None => ComponentState::COMPONENT_STATE_UNSPECIFIED,
            Some(readiness) if readiness.is_ready() => ComponentState::COMPONENT_STATE_AVAILABLE,
            Some(_) => ComponentState::COMPONENT_STATE_UNAVAILABLE,
        };
        Ok(Some(LiveState { live, database, minutes: self.watcher.minutes(), ranking: self.watcher.ranking() }))
    }
}
