//! `EventService` in terms of pings: an event is a ping whose source is never left open.

use futures::{Stream, StreamExt};
use tonic::Status;

use super::{Api, caller::Caller};
use ping_proto as proto;

impl Api {
    pub(super) async fn record_event(
        &self,
        request: proto::RecordRequest,
        caller: &Caller,
    ) -> Result<proto::RecordResponse, Status> {
        let answer = self.ping(ping(request, caller)).await?;
        Ok(proto::RecordResponse { event_id: answer.event_id, token: answer.token })
    }

    pub(super) async fn record_batch(
        &self,
        request: proto::RecordBatchRequest,
        caller: &Caller,
    ) -> Result<proto::RecordBatchResponse, Status> {
        self.record(pings(request, caller).pings).await.map(recorded)
    }

    pub(super) fn record_stream(
        self,
        batches: impl Stream<Item = Result<proto::RecordBatchRequest, Status>> + Send + 'static,
        caller: Caller,
    ) -> impl Stream<Item = Result<proto::RecordBatchResponse, Status>> + Send + 'static {
        let batches = batches.map(move |batch| batch.map(|batch| pings(batch, &caller)));
        self.stream_pings(batches).map(|answer| answer.map(recorded))
    }
}

fn ping(request: proto::RecordRequest, caller: &Caller) -> proto::PingRequest {
    let proto::RecordRequest { event_id, source, kind, timestamp_ms, receipt } = request;
    let source = if source.is_empty() { caller.0.to_string() } else { source };
    proto::PingRequest { timestamp_ms, event_id, source, kind, receipt }
}

fn pings(request: proto::RecordBatchRequest, caller: &Caller) -> proto::StreamPingsRequest {
    proto::StreamPingsRequest { pings: request.events.into_iter().map(|event| ping(event, caller)).collect() }
}

fn recorded(answer: proto::StreamPingsResponse) -> proto::RecordBatchResponse {
    let proto::StreamPingsResponse { batches, accepted, token, refused } = answer;
    let refused = refused.into_iter().map(|refused| {
        let proto::RefusedPing { index, code, message } = refused;
        proto::RefusedEvent { index, code, message }
    });
    proto::RecordBatchResponse { batches, accepted, token, refused: refused.collect() }
}
