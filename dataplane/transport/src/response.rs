//! The body of a response: the request is in progress until it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::connections::ActiveRequest;

/// A body that ends its request when it is dropped. A request that was refused before it reached the service has no body.
pub(crate) struct ResponseBody<B> {
    inner: Option<B>,
    _request: Option<ActiveRequest>,
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(inner: B, request: ActiveRequest) -> Self {
        Self { inner: Some(inner), _request: Some(request) }
    }

    pub(crate) fn empty() -> Self {
        Self { inner: None, _request: None }
    }
}

impl<B: HttpBody + Unpin> HttpBody for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.inner.as_mut().map_or(Poll::Ready(None), |inner| Pin::new(inner).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
