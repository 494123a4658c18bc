//! The body of a response: its request is in progress, and what it holds is charged, until the connection has sent all of it.

use std::{
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Buf;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{Account, connections::ActiveRequest};

/// An extension of responses that are complete, although their bodies do not say how long they are.
#[derive(Clone, Copy, Debug)]
pub struct Complete;

/// What ends when a response is sent.
pub(crate) struct Unsent {
    pub(crate) request: ActiveRequest,
    /// What a complete answer holds of the budget. A stream charges for itself.
    pub(crate) _answer: Option<Arc<Account>>,
}

/// A body that ends its request when it is sent, or dropped. A request that was refused before it reached the service has no body.
pub(crate) struct ResponseBody<B> {
    inner: Option<B>,
    unsent: Option<Arc<Unsent>>,
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(inner: B, unsent: Unsent) -> Self {
        Self { inner: Some(inner), unsent: Some(Arc::new(unsent)) }
    }

    pub(crate) fn empty() -> Self {
        Self { inner: None, unsent: None }
    }
}

impl<B: HttpBody + Unpin> HttpBody for ResponseBody<B> {
    type Data = UnsentData<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let Self { inner, unsent } = &mut *self;
        let Some(inner) = inner else { return Poll::Ready(None) };
        let frame = Pin::new(inner).poll_frame(context);
        frame.map_ok(|frame| frame.map_data(|data| UnsentData { data, unsent: unsent.clone() }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// Data that the connection may keep after the body has ended: by HTTP/2, until the peer's window has room for it.
pub(crate) struct UnsentData<D> {
    data: D,
    unsent: Option<Arc<Unsent>>,
}

impl<D: Buf> Buf for UnsentData<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, chunks: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(chunks)
    }

    fn advance(&mut self, bytes: usize) {
        self.data.advance(bytes);
        if let Some(unsent) = &self.unsent {
            unsent.request.sent();
        }
    }
}
