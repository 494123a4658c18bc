//! The body of a request: what it holds is charged to the budget before it is decoded.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::{Account, Charge, UnreadBody};

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The memory budget is used up.
    #[error("the server is short of memory for requests; retry later")]
    Exhausted,
    /// Nothing arrived for the idle timeout.
    #[error("nothing arrived for {} s", .0.as_secs())]
    Idle(Duration),
    /// The connection failed, or the peer violated the protocol.
    #[error("the connection failed")]
    Http(#[source] Box<dyn Error + Send + Sync>),
}

/// The body of a request.
pub struct Body<B = Incoming> {
    /// Present until the body is dropped.
    incoming: Option<B>,
    /// Whether to keep what is left of it, and how.
    keep: Option<fn(B) -> UnreadBody>,
    account: Arc<Account>,
    /// How long to wait for the budget.
    wait_timeout: Duration,
    idle_timeout: Duration,
    /// Runs while the body waits for the peer.
    idle: Option<Pin<Box<Sleep>>>,
    /// A frame that waits for its charge.
    waiting: Option<(Frame<Bytes>, BoxFuture<'static, Option<Charge>>)>,
}

impl<B> Body<B>
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// `incoming`, charged to `account`. Waits for the budget at most `wait_timeout`, and for the peer at most `idle_timeout`.
    pub fn new(incoming: B, account: Arc<Account>, wait_timeout: Duration, idle_timeout: Duration) -> Self {
        Self { incoming: Some(incoming), keep: None, account, wait_timeout, idle_timeout, idle: None, waiting: None }
    }

    /// The same body; if it is dropped before its end, its account gets the rest.
    pub(crate) fn kept(mut self) -> Self {
        self.keep = Some(|incoming| Box::pin(Erased(incoming)));
        self
    }
}

impl<B> Body<B> {
    /// Polls the charge that the last frame waits for.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((_, charge)) = &mut self.waiting else { return Poll::Ready(None) };
        let charge = ready!(charge.as_mut().poll(context));
        let frame = self.waiting.take().map(|(frame, _)| frame);
        let Some(charge) = charge else { return Poll::Ready(Some(Err(BodyError::Exhausted))) };
        let bytes = frame.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        self.account.add_frame(charge, bytes);
        Poll::Ready(frame.map(Ok))
    }

    /// Passes the frame on if it is paid for, or makes it wait for its charge.
    fn admit(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        self.idle = None;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if self.account.take_prepaid(bytes) {
            return Some(frame);
        }
        let (account, wait_timeout) = (Arc::clone(&self.account), self.wait_timeout);
        self.waiting = Some((frame, Box::pin(async move { account.charge(bytes, wait_timeout).await })));
        None
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let timeout = self.idle_timeout;
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(idle.as_mut().poll(context));
        // A peer that sends again is not cut off by the same timer.
        idle.as_mut().reset(Instant::now() + timeout);
        Poll::Ready(Some(Err(BodyError::Idle(timeout))))
    }
}

impl<B> HttpBody for Body<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.waiting.is_some() {
                return self.poll_waiting(context);
            }
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
            match Pin::new(incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(frame) = self.admit(frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(ended) => {
                    self.keep = None;
                    return Poll::Ready(ended.map(|result| result.map_err(|error| BodyError::Http(error.into()))));
                }
                Poll::Pending => return self.poll_idle(context),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl<B> Drop for Body<B> {
    fn drop(&mut self) {
        if let (Some(keep), Some(incoming)) = (self.keep, self.incoming.take()) {
            self.account.keep_unread(keep(incoming));
        }
    }
}

/// A body whose error has no type.
struct Erased<B>(B);

impl<B> HttpBody for Erased<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.0).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
