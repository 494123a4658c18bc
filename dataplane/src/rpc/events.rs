//! `EventService` in terms of pings: an event is a ping whose source is never left open.

use futures::{Stream, StreamExt};
use tonic::Status;

use super::{Api, caller::Caller};
use crate::wire;

impl Api {
    pub(super) async fn record_event(
        &self,
        request: wire::RecordRequest,
        caller: &Caller,
    ) -> Result<wire::RecordResponse, Status> {
        let answer = self.ping(ping(request, caller)).await?;
        Ok(wire::RecordResponse { id: answer.event_id, token: answer.token })
    }

    pub(super) async fn record_batch(
        &self,
        request: wire::RecordBatchRequest,
        caller: &Caller,
    ) -> Result<wire::RecordBatchResponse, Status> {
        self.record(pings(request, caller).pings).await.map(recorded)
    }

    pub(super) fn record_stream(
        self,
        batches: impl Stream<Item = Result<wire::RecordBatchRequest, Status>> + Send + 'static,
        caller: Caller,
    ) -> impl Stream<Item = Result<wire::RecordBatchResponse, Status>> + Send + 'static {
        let batches = batches.map(move |batch| batch.map(|batch| pings(batch, &caller)));
        self.stream_pings(batches).map(|answer| answer.map(recorded))
    }
}

fn ping(request: wire::RecordRequest, caller: &Caller) -> wire::PingRequest {
    let wire::RecordRequest { id, source, kind, time_ms, receipt } = request;
    let source = if source.is_empty() { caller.0.to_string() } else { source };
    wire::PingRequest { timestamp_ms: time_ms, event_id: id, source, kind, receipt }
}

fn pings(request: wire::RecordBatchRequest, caller: &Caller) -> wire::StreamPingsRequest {
    wire::StreamPingsRequest { pings: request.events.into_iter().map(|event| ping(event, caller)).collect() }
}

fn recorded(answer: wire::StreamPingsResponse) -> wire::RecordBatchResponse {
    let wire::StreamPingsResponse { batches, accepted, token, refused } = answer;
    let refused = refused.into_iter().map(|refused| {
        let wire::RefusedPing { index, code, message } = refused;
        wire::RefusedEvent { index, code, message }
    });
    wire::RecordBatchResponse { batches, accepted, token, refused: refused.collect() }
}
