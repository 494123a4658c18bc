//! Admits messages before they are decoded: size limits per method, and the memory budget.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use connectrpc::{
    CodecFormat, ConnectError, Dispatcher, EncodedStream, Payload, RequestContext,
    dispatcher::{MethodDescriptor, RequestStream, StreamingResult, UnaryResult},
    envelope,
};
use futures::StreamExt;
use parking_lot::Mutex;
use ping_transport::{BUDGET_TIMEOUT, Charge, RequestScope, STREAM_WINDOW_BYTES};
use tokio_util::sync::CancellationToken;

use super::{
    cloud_events,
    credit::{self, Arrival, Credit},
    errors, json_error, json_shape, limits,
};

/// The charges of the messages that a stream has delivered, in order. An extension of the streams' contexts. A handler of batches takes
/// one per message and holds it until the message's events are committed.
#[derive(Clone, Default)]
pub(super) struct StreamCharges(Arc<Mutex<VecDeque<Charge>>>);

impl StreamCharges {
    /// The charge of the oldest message.
    pub(super) fn next(&self) -> Option<Charge> {
        self.0.lock().pop_front()
    }
}

/// Dispatches calls whose messages are within the limits and the budget. At shutdown, streams end.
pub(super) struct Guard<D> {
    pub(super) dispatcher: D,
    pub(super) shutdown: CancellationToken,
}

impl<D> Guard<D> {
    /// The same answer, which ends at shutdown. Streams of batches stop reading instead: what they have read is acknowledged.
    fn until_shutdown(&self, path: &str, call: StreamingResult) -> StreamingResult {
        if limits::receives_batches(path) {
            return call;
        }
        let shutdown = self.shutdown.clone();
        Box::pin(async move {
            let answer = call.await?;
            Ok(answer
                .map_body(|messages| -> EncodedStream { Box::pin(messages.take_until(shutdown.cancelled_owned())) }))
        })
    }
}

impl<D: Dispatcher> Dispatcher for Guard<D> {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        let method = self.dispatcher.lookup(path)?;
        // Health and reflection bring their own.
        let limits = method.limits.unwrap_or_else(|| limits::of(path));
        Some(method.with_limits(limits))
    }

    fn call_unary(
        &self,
        path: &str,
        context: RequestContext,
        mut request: Payload,
        format: CodecFormat,
    ) -> UnaryResult {
        if let Some(form) = context.extensions().get().copied() {
            match convert(form, &context, request.bytes()) {
                Ok(converted) => request = Payload::new(converted, CodecFormat::Json),
                Err(error) => return Box::pin(async { Err(error) }),
            }
        }
        if let Err(error) = admit(path, &context, request.bytes(), format) {
            return Box::pin(async { Err(error) });
        }
        // The body stays charged until the call ends, because the scope holds its charges.
        let scope = scope(&context).cloned();
        let body = (format == CodecFormat::Json).then(|| request.bytes().clone());
        let call = self.dispatcher.call_unary(path, context, request, format);
        let path = path.to_owned();
        Box::pin(async move {
            let result = call.await;
            let result = match body {
                Some(body) => result.map_err(|error| json_error::explain(error, &path, &body)),
                None => result,
            };
            let bytes = result.as_ref().map_or(0, |answer| answer.body.len());
            match scope {
                Some(scope) if !scope.account.hold_answer(bytes) => Err(errors::out_of_memory()),
                _ => result,
            }
        })
    }

    fn call_server_streaming(
        &self,
        path: &str,
        context: RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        if let Err(error) = admit(path, &context, &request, format) {
            return Box::pin(async { Err(error) });
        }
        let call = self.dispatcher.call_server_streaming(path, context, request.clone(), format);
        let call = self.until_shutdown(path, call);
        if format != CodecFormat::Json {
            return call;
        }
        let path = path.to_owned();
        Box::pin(async move { call.await.map_err(|error| json_error::explain(error, &path, &request)) })
    }

    fn call_client_streaming(
        &self,
        path: &str,
        context: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        self.dispatcher.call_client_streaming(path, context, requests, format)
    }

    fn call_bidi_streaming(
        &self,
        path: &str,
        mut context: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> StreamingResult {
        let Some(scope) = scope(&context).cloned() else {
            return self.until_shutdown(path, self.dispatcher.call_bidi_streaming(path, context, requests, format));
        };
        // While the server reads no further, the connection holds up to a window of unread data.
        if !scope.account.try_hold(STREAM_WINDOW_BYTES as usize) {
            return Box::pin(async { Err(errors::out_of_memory()) });
        }
        let charges = StreamCharges::default();
        context.extensions_mut().insert(charges.clone());
        let admission = Admission { path: path.into(), format, scope, charges };
        let credit = context.extensions_mut().remove::<Arc<Credit>>();
        let requests = credit::arrivals(requests, credit).then(move |(message, arrival)| {
            let admission = admission.clone();
            async move { admission.admit(message, arrival).await }
        });
        let call = self.dispatcher.call_bidi_streaming(path, context, Box::pin(requests), format);
        self.until_shutdown(path, call)
    }
}

fn scope(context: &RequestContext) -> Option<&RequestScope> {
    context.extensions().get()
}

/// The request to the event service that CloudEvents mean, charged until the call ends.
fn convert(form: cloud_events::Form, context: &RequestContext, body: &[u8]) -> Result<Bytes, ConnectError> {
    match scope(context) {
        Some(scope) if !scope.account.try_hold(cloud_events::cost(body)) => Err(errors::out_of_memory()),
        _ => cloud_events::convert(form, body),
    }
}

/// Charges a single message, with its decoded form, until the call ends.
fn admit(path: &str, context: &RequestContext, message: &[u8], format: CodecFormat) -> Result<(), ConnectError> {
    let cost = cost(path, message, format)?;
    match scope(context) {
        Some(scope) if !scope.account.try_hold_message(cost) => Err(errors::out_of_memory()),
        _ => Ok(()),
    }
}

/// What a message costs in memory, if it may be decoded at all.
fn cost(path: &str, message: &[u8], format: CodecFormat) -> Result<usize, ConnectError> {
    if format == CodecFormat::Json {
        json_shape::check(path, message)?;
    }
    limits::cost(path, message, format).ok_or_else(|| {
        let message = format!("the request has too many events; send at most {} at once", limits::MAX_BATCH_EVENTS);
        errors::invalid_field("events", message)
    })
}

/// Admits the messages of one stream.
#[derive(Clone)]
struct Admission {
    path: Box<str>,
    format: CodecFormat,
    scope: RequestScope,
    charges: StreamCharges,
}

impl Admission {
    async fn admit(
        &self,
        message: Result<Bytes, ConnectError>,
        arrival: Option<Arrival>,
    ) -> Result<Bytes, ConnectError> {
        let account = &self.scope.account;
        let message = message.map_err(|error| if account.is_exhausted() { errors::out_of_memory() } else { error })?;
        let cost = cost(&self.path, &message, self.format)?;
        let (charge, bytes) = match arrival {
            Some(Arrival { mut charge, bytes }) => {
                charge.shrink(cost);
                (charge, bytes)
            }
            None => {
                let charge = account.charge(cost, BUDGET_TIMEOUT).await.ok_or_else(errors::out_of_memory)?;
                (charge, envelope::HEADER_SIZE + message.len())
            }
        };
        // What the body charged for this message while it arrived is covered by the message's own charge now.
        account.release_body(bytes);
        let mut charges = self.charges.0.lock();
        if !limits::receives_batches(&self.path) {
            // The handler asks for the next message when it is done with the last one.
            charges.clear();
        }
        charges.push_back(charge);
        Ok(message)
    }
}
