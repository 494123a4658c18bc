//! `EventService`: converts its messages and calls the write path. An event without a source gets the caller's address.

use futures::{Stream, StreamExt};
use tonic::Status;

use super::{
    Api,
    caller::CallerAddress,
    record::{Acknowledgement, ReceivedEvent, RecordedBatch, RefusedRecord, ValidatedBatch},
};
use ping_proto as proto;

impl Api {
    pub(super) async fn record(
        &self,
        request: proto::RecordRequest,
        caller: &CallerAddress,
    ) -> Result<proto::RecordResponse, Status> {
        let received = received(&request, caller);
        let Acknowledgement { event_id, token } = self.record_one(received, request.receipt).await?;
        Ok(proto::RecordResponse { event_id, token })
    }

    pub(super) async fn record_batch(
        &self,
        request: proto::RecordBatchRequest,
        caller: &CallerAddress,
    ) -> Result<proto::RecordBatchResponse, Status> {
        let batch = validate_batch(self, &request, caller)?;
        // A single batch has no position in a stream.
        self.record_all(batch).await.map(|recorded| batch_response(0, recorded))
    }

    pub(super) fn record_stream(
        self,
        batches: impl Stream<Item = Result<proto::RecordBatchRequest, Status>> + Send + 'static,
        caller: CallerAddress,
    ) -> impl Stream<Item = Result<proto::RecordBatchResponse, Status>> + Send + 'static {
        let recorded = self.record_batches(batches, move |api, batch| validate_batch(api, &batch, &caller));
        recorded.map(|recorded| recorded.map(|(batches, recorded)| batch_response(batches, recorded)))
    }
}

fn received<'a>(request: &'a proto::RecordRequest, caller: &'a CallerAddress) -> ReceivedEvent<'a> {
    let proto::RecordRequest { event_id, source, kind, timestamp_ms, receipt: _ } = request;
    let source = if source.is_empty() { &*caller.0 } else { source.as_str() };
    ReceivedEvent { event_id, source, kind, timestamp_ms: *timestamp_ms }
}

fn validate_batch(
    api: &Api,
    batch: &proto::RecordBatchRequest,
    caller: &CallerAddress,
) -> Result<ValidatedBatch, Status> {
    api.validate_batch(batch.events.iter().map(|event| received(event, caller)))
}

fn batch_response(batches: i64, recorded: RecordedBatch) -> proto::RecordBatchResponse {
    let refused = |RefusedRecord { index, code, message }| proto::RefusedEvent { index, code: code.into(), message };
    let RecordedBatch { accepted, token, refused: all } = recorded;
    proto::RecordBatchResponse { batches, accepted, token, refused: all.into_iter().map(refused).collect() }
}
