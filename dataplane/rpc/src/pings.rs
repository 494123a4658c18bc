//! `PingService`: converts its messages and calls the write and read paths.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tonic::Status;

use super::{
    Api, errors,
    record::{Acknowledgement, ReceivedEvent, RecordedBatch, RefusedRecord, ValidatedBatch},
};
use ping_core::TimeRange;
use ping_proto as proto;
use ping_query::{CountRequest, ServedBy};

/// Longest time that `PingCount` waits for the event of a token.
const MAX_TOKEN_WAIT: Duration = Duration::from_secs(10);
/// `PingCount` stops waiting this long before the caller's deadline, so that the response arrives in time.
const RESPONSE_MARGIN: Duration = Duration::from_millis(20);

impl Api {
    pub(super) async fn ping(&self, request: proto::PingRequest) -> Result<proto::PingResponse, Status> {
        let Acknowledgement { event_id, token } = self.record_one(received(&request), request.receipt).await?;
        Ok(proto::PingResponse { event_id, token })
    }

    pub(super) fn stream_pings(
        self,
        batches: impl Stream<Item = Result<proto::StreamPingsRequest, Status>> + Send + 'static,
    ) -> impl Stream<Item = Result<proto::StreamPingsResponse, Status>> + Send + 'static {
        let recorded = self.record_batches(batches, |api, batch| validate_batch(api, &batch));
        recorded.map(|recorded| recorded.map(|(batches, recorded)| stream_response(batches, recorded)))
    }

    pub(super) async fn ping_count(
        &self,
        request: proto::PingCountRequest,
        timeout: Option<Duration>,
    ) -> Result<proto::PingCountResponse, Status> {
        let range = request.time_range.map(|range| TimeRange::new(range.start, range.end)).transpose();
        let range = range.map_err(|error| errors::invalid_range(&error))?;
        let after = (!request.after.is_empty()).then(|| request.after.parse()).transpose();
        let after = after.map_err(|_| Status::invalid_argument(errors::INVALID_TOKEN))?;
        let wait =
            timeout.map_or(MAX_TOKEN_WAIT, |timeout| timeout.saturating_sub(RESPONSE_MARGIN)).min(MAX_TOKEN_WAIT);
        let request = CountRequest { range, strong: request.strong, after };
        let count = self.queries()?.counts.count(request, Instant::now() + wait).await;
        let count = count.map_err(|error| errors::query(&error))?;
        self.metrics.counts.inc();
        let store = match count.served_by {
            ServedBy::Cache => proto::Store::Cache,
            ServedBy::Store => {
                self.metrics.store_reads.inc();
                proto::Store::Database
            }
        };
        Ok(proto::PingCountResponse {
            ping_count: count.count,
            as_of_ms: count.as_of,
            lag_ms: count.lag,
            exact: count.exact,
            store: store.into(),
            last_audit_ms: count.last_audit,
        })
    }

    pub(super) async fn verify(&self, _: proto::VerifyRequest) -> Result<proto::VerifyResponse, Status> {
        let found = self.queries()?.counts.verify().await.map_err(|error| errors::unavailable(&error))?;
        Ok(proto::VerifyResponse {
            exact: found.differences.is_empty(),
            rows: found.recount.rows,
            total: found.recount.total,
            minutes_total: found.recount.minutes_total,
            days_total: found.recount.days_total,
            cache_total: found.cache_total,
            minutes_compared: errors::wire_count(found.minutes_compared)?,
            differences: found.differences,
        })
    }
}

fn received(request: &proto::PingRequest) -> ReceivedEvent<'_> {
    let proto::PingRequest { timestamp_ms, event_id, source, kind, receipt: _ } = request;
    ReceivedEvent { event_id, source, kind, timestamp_ms: *timestamp_ms }
}

fn validate_batch(api: &Api, batch: &proto::StreamPingsRequest) -> Result<ValidatedBatch, Status> {
    api.validate_batch(batch.pings.iter().map(received))
}

fn stream_response(batches: i64, recorded: RecordedBatch) -> proto::StreamPingsResponse {
    let refused = |RefusedRecord { index, code, message }| proto::RefusedPing { index, code: code.into(), message };
    let RecordedBatch { accepted, token, refused: all } = recorded;
    proto::StreamPingsResponse { batches, accepted, token, refused: all.into_iter().map(refused).collect() }
}
