//! How long calls take and how they end, by method and code, as metrics and as spans. The front starts a [`Timer`]; whichever part decides how
//! the call ends says so.

use std::{pin::Pin, sync::Arc, task, time::Instant};

use bytes::Bytes;
use connectrpc::{
    CodecFormat, ConnectError, Dispatcher, EncodedStream, ErrorCode, Payload, RequestContext,
    dispatcher::{MethodDescriptor, RequestStream, StreamingResult, UnaryResult},
};
use futures::Stream;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use ping_ports::{TraceContext, TraceSpan, Traces};

use super::RpcMetrics;

/// The code of a call that ended well.
const OK: &str = "ok";
/// Every code that an answer without a body can mean. Several have the same HTTP status: the first one counts.
const CODES: [ErrorCode; 9] = [
    ErrorCode::InvalidArgument,
    ErrorCode::Unauthenticated,
    ErrorCode::PermissionDenied,
    ErrorCode::ResourceExhausted,
    ErrorCode::DeadlineExceeded,
    ErrorCode::Unimplemented,
    ErrorCode::Internal,
    ErrorCode::Unavailable,
    ErrorCode::Canceled,
];

/// Codes that say that the server failed, not the caller.
const FAILURES: [ErrorCode; 6] = [
    ErrorCode::Unknown,
    ErrorCode::DeadlineExceeded,
    ErrorCode::Unimplemented,
    ErrorCode::Internal,
    ErrorCode::Unavailable,
    ErrorCode::DataLoss,
];

/// One call, measured until its last holder drops it. An extension of the request.
#[derive(Clone)]
pub(super) struct Timer(Arc<Measurement>);

struct Measurement {
    metrics: Arc<RpcMetrics>,
    method: &'static str,
    started: Instant,
    code: Mutex<Option<&'static str>>,
    /// None if the call is not traced.
    span: Option<Box<dyn TraceSpan>>,
}

impl Timer {
    /// A call that starts now. The method is none if there is no such method. The headers may say which trace the call belongs to.
    pub(super) fn start(
        metrics: &Arc<RpcMetrics>,
        traces: &Traces,
        method: Option<MethodDescriptor>,
        headers: &HeaderMap,
    ) -> Self {
        // Health and reflection have routes without metadata. Labels must not come from the caller.
        let procedure = method.and_then(|method| method.spec).map(|spec| &spec.procedure[1..]);
        let method = procedure.unwrap_or(if method.is_some() { "other" } else { "unknown" });
        let span = procedure.and_then(|method| traces.tracer()?.start_call(method, caller(headers).as_ref()));
        Self(Arc::new(Measurement {
            metrics: Arc::clone(metrics),
            method,
            started: Instant::now(),
            code: Mutex::default(),
            span,
        }))
    }

    /// The span of the call, if it is traced.
    pub(super) fn trace(&self) -> Option<&TraceContext> {
        self.0.span.as_deref().map(TraceSpan::context)
    }

    /// The call ends with `error`, whatever was decided before.
    pub(super) fn failed(&self, error: &ConnectError) {
        *self.0.code.lock() = Some(error.code.as_str());
    }

    /// The call ends like this, unless it is known already.
    fn ended(&self, code: &'static str) {
        self.0.code.lock().get_or_insert(code);
    }

    /// The protocol library answered with this, maybe without a call of a handler.
    pub(super) fn answered(&self, status: StatusCode, headers: &HeaderMap) {
        let grpc = headers.get("grpc-status").and_then(|code| code.to_str().ok()).and_then(|code| code.parse().ok());
        let of_grpc = |number: u32| CODES.into_iter().find(|code| code.grpc_code() == number);
        let of_http = || CODES.into_iter().find(|code| code.http_status() == status);
        let code = match (status, grpc) {
            (StatusCode::OK, None) => return,
            (StatusCode::OK, Some(number)) => of_grpc(number),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::METHOD_NOT_ALLOWED, _) => Some(ErrorCode::Unimplemented),
            (StatusCode::PAYLOAD_TOO_LARGE, _) => Some(ErrorCode::ResourceExhausted),
            _ => of_http(),
        };
        self.ended(code.unwrap_or(ErrorCode::Unknown).as_str());
    }
}

impl Drop for Measurement {
    fn drop(&mut self) {
        // Nothing ended the call, so its caller did.
        let code = self.code.get_mut().unwrap_or(ErrorCode::Canceled.as_str());
        self.metrics.observe(self.method, code, self.started.elapsed());
        if let Some(span) = &mut self.span {
            span.set_code(code);
            if FAILURES.iter().any(|failure| failure.as_str() == code) {
                span.fail(code.to_owned());
            }
        }
    }
}

/// The caller's span.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::new(headers.get(TraceContext::HEADER)?.to_str().ok()?)
}

/// Dispatches calls, and notes how they end.
pub(super) struct Measured<D>(pub(super) D);

fn timer(context: &RequestContext) -> Option<Timer> {
    context.extensions().get().cloned()
}

fn unary(timer: Option<Timer>, call: UnaryResult) -> UnaryResult {
    Box::pin(async move {
        let result = call.await;
        match (&timer, &result) {
            (Some(timer), Ok(_)) => timer.ended(OK),
            (Some(timer), Err(error)) => timer.failed(error),
            (None, _) => {}
        }
        result
    })
}

fn streaming(timer: Option<Timer>, call: StreamingResult) -> StreamingResult {
    Box::pin(async move {
        let result = call.await;
        if let (Some(timer), Err(error)) = (&timer, &result) {
            timer.failed(error);
        }
        let response = result?;
        Ok(response.map_body(|messages| -> EncodedStream { Box::pin(MeasuredStream { messages, timer }) }))
    })
}

/// The messages of an answer. How it ends is how the call ends.
struct MeasuredStream<S> {
    messages: S,
    timer: Option<Timer>,
}

impl<T, S: Stream<Item = Result<T, ConnectError>> + Unpin> Stream for MeasuredStream<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.messages).poll_next(context);
        match (&next, &self.timer) {
            (task::Poll::Ready(None), Some(timer)) => timer.ended(OK),
            (task::Poll::Ready(Some(Err(error))), Some(timer)) => timer.failed(error),
            _ => {}
        }
        next
    }
}

impl<D: Dispatcher> Dispatcher for Measured<D> {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        self.0.lookup(path)
    }

    fn call_unary(&self, path: &str, context: RequestContext, request: Payload, format: CodecFormat) -> UnaryResult {
        unary(timer(&context), self.0.call_unary(path, context, request, format))
    }

    fn call_server_streaming(
        &self,
        path: &str,
        context: RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        streaming(timer(&context), self.0.call_server_streaming(path, context, request, format))
    }

    fn call_client_streaming(
        &self,
        path: &str,
        context: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        unary(timer(&context), self.0.call_client_streaming(path, context, requests, format))
    }

    fn call_bidi_streaming(
        &self,
        path: &str,
        context: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> StreamingResult {
        streaming(timer(&context), self.0.call_bidi_streaming(path, context, requests, format))
    }
}
