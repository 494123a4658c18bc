//! `EventService`: converts its messages and calls the write path. An event without a source gets the caller's address.

use connectrpc::{InboundStream, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use futures::TryStreamExt;
use ping_proto::{
    self as proto, EventService, RecordBatchRequest, RecordBatchResponse, RecordRequest, RecordRequestView,
    RecordResponse,
};
use ping_transport::{CallerAddress, RequestScope};

use super::{
    Api,
    access::Session,
    guard::StreamCharges,
    record::{Acknowledgement, ReceivedEvent, RecordedBatch, RefusedRecord},
};

impl EventService for Api {
    async fn record(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, RecordRequest>,
    ) -> ServiceResult<RecordResponse> {
        let caller = caller(&context);
        let received = received(request.view(), &caller);
        let recorded = self.record_one(received, Session::of(&context)?, request.receipt);
        let Acknowledgement { event_id, token } = recorded.await?;
        Response::ok(RecordResponse { event_id, token })
    }

    async fn record_batch(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, RecordBatchRequest>,
    ) -> ServiceResult<RecordBatchResponse> {
        let caller = caller(&context);
        let events = request.events.iter().map(|event| received(event, &caller));
        let session = Session::of(&context)?;
        let batch = self.validate_batch(events, session)?;
        self.admit(session, &batch.events).await?;
        // A single batch has no position in a stream.
        Response::ok(batch_response(0, self.record_all(batch, session.trace()).await?))
    }

    async fn record_stream(
        &self,
        context: RequestContext,
        requests: InboundStream<RecordBatchRequest>,
    ) -> ServiceResult<ServiceStream<RecordBatchResponse>> {
        let caller = caller(&context);
        let charges = context.extensions().get::<StreamCharges>().cloned().unwrap_or_default();
        let session = Session::of(&context)?.clone();
        let recorded = self.clone().record_batches(requests, charges, session, move |api, session, message| {
            api.validate_batch(message.view().events.iter().map(|event| received(event, &caller)), session)
        });
        let response = |(batches, recorded)| batch_response(batches, recorded);
        Ok(Response::stream(recorded.map_ok(response)))
    }
}

/// The caller's address; empty if the transport does not know it.
fn caller(context: &RequestContext) -> CallerAddress {
    context.extensions().get::<RequestScope>().map(|scope| scope.caller(context.headers())).unwrap_or_default()
}

fn received<'a>(request: &RecordRequestView<'a>, caller: &'a CallerAddress) -> ReceivedEvent<'a> {
    let source = if request.source.is_empty() { &*caller.0 } else { request.source };
    ReceivedEvent { event_id: request.event_id, source, kind: request.kind, timestamp_ms: request.timestamp_ms }
}

fn batch_response(batches: i64, recorded: RecordedBatch) -> RecordBatchResponse {
    let refused = |RefusedRecord { index, code, message }| proto::RefusedEvent { index, code: code.into(), message };
    let RecordedBatch { accepted, token, refused: all } = recorded;
    RecordBatchResponse { batches, accepted, token, refused: all.into_iter().map(refused).collect() }
}
