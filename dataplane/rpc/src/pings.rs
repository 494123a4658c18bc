//! `PingService`: converts its messages and calls the write and read paths.

use std::time::Duration;

use connectrpc::{InboundStream, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use futures::TryStreamExt;
use http::{HeaderValue, header};
use ping_core::TimeRange;
use ping_identity::Extent;
use ping_ports::{Incarnation, IncarnationChange};
use ping_proto::{
    self as proto, PingCountRequest, PingCountResponse, PingRequest, PingResponse, PingService, StreamPingsRequest,
    StreamPingsResponse,
};
use ping_query::{CountRequest, CountResponse, ServedBy, StorageUsage};
use tokio::time::Instant;

use super::{
    Api,
    access::Session,
    errors,
    guard::StreamCharges,
    record::{Acknowledgement, ReceivedEvent, RecordedBatch, RefusedRecord},
};

/// Longest time that `PingCount` waits for the event of a token.
const MAX_TOKEN_WAIT: Duration = Duration::from_secs(10);
/// `PingCount` stops waiting this long before the caller's deadline, so that the response arrives in time.
const RESPONSE_MARGIN: Duration = Duration::from_millis(20);
/// For a count that a caller got by GET. It says itself as of when it is exact, so a shared copy stays true; it is only older.
const SHARED_FOR_A_SECOND: HeaderValue = HeaderValue::from_static("public, max-age=1");
/// The same, where not everyone may read it.
const PRIVATE_FOR_A_SECOND: HeaderValue = HeaderValue::from_static("private, max-age=1");

impl PingService for Api {
    async fn ping(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, PingRequest>,
    ) -> ServiceResult<PingResponse> {
        let session = Session::of(&context)?;
        let recorded = self.record_one(received(request.view()), session, request.receipt);
        let Acknowledgement { event_id, token } = recorded.await?;
        Response::ok(PingResponse { event_id, token })
    }

    async fn ping_count(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, PingCountRequest>,
    ) -> ServiceResult<PingCountResponse> {
        // A total has no source.
        let session = Session::of(&context)?;
        session.authorize_read(Extent::All)?;
        let range = request.time_range.as_option().map(|range| TimeRange::new(range.start, range.end)).transpose();
        let range = range.map_err(|error| errors::invalid_range(&error))?;
        let after = (!request.after.is_empty()).then(|| request.after.parse()).transpose();
        let after = after.map_err(|_| errors::invalid_token())?;
        let timeout = context.time_remaining().map(|left| left.saturating_sub(RESPONSE_MARGIN));
        let wait = timeout.unwrap_or(MAX_TOKEN_WAIT).min(MAX_TOKEN_WAIT);
        let count_request = CountRequest { range, strong: request.strong, after };
        let count = self.queries()?.counts.count(count_request, Instant::now() + wait).await;
        let count = count.map_err(|error| errors::query(&error))?;
        self.metrics.counts.inc();
        if count.served_by == ServedBy::Store {
            self.metrics.store_reads.inc();
        }
        let response = Response::new(count_response(&count));
        let shareable = !request.strong && after.is_none();
        let cache_control = if session.is_open() { SHARED_FOR_A_SECOND } else { PRIVATE_FOR_A_SECOND };
        Ok(if shareable { response.with_header(header::CACHE_CONTROL, cache_control) } else { response })
    }

    async fn stream_pings(
        &self,
        context: RequestContext,
        requests: InboundStream<StreamPingsRequest>,
    ) -> ServiceResult<ServiceStream<StreamPingsResponse>> {
        let charges = context.extensions().get::<StreamCharges>().cloned().unwrap_or_default();
        let session = Session::of(&context)?.clone();
        let recorded = self.clone().record_batches(requests, charges, session, |api, session, message| {
            api.validate_batch(message.view().pings.iter().map(received), session)
        });
        let response = |(batches, recorded)| stream_response(batches, recorded);
        Ok(Response::stream(recorded.map_ok(response)))
    }
}

pub(super) fn count_response(count: &CountResponse) -> PingCountResponse {
    let store = match count.served_by {
        ServedBy::Cache => proto::Store::STORE_CACHE,
        ServedBy::Store => proto::Store::STORE_DATABASE,
    };
    PingCountResponse {
        ping_count: count.count,
        as_of_ms: count.as_of,
        lag_ms: count.lag,
        exact: count.exact,
        store: store.into(),
        last_audit_ms: count.last_audit,
        views_differ: count.views.suspect,
        views_last_audit_ms: count.views.last_audit,
        storage: buffa::MessageField::from(count.storage.map(storage_usage)),
        incarnation_change: buffa::MessageField::from(count.views.change.map(incarnation_change)),
    }
}

fn incarnation_change(IncarnationChange { of, noticed, phantoms }: IncarnationChange) -> proto::IncarnationChange {
    let incarnation = match of {
        Incarnation::Store => proto::Incarnation::INCARNATION_STORE,
        Incarnation::Log => proto::Incarnation::INCARNATION_LOG,
    };
    proto::IncarnationChange { incarnation: incarnation.into(), noticed_ms: noticed, phantom_events: phantoms }
}

fn storage_usage(StorageUsage { used, wal, growth_per_day }: StorageUsage) -> proto::StorageUsage {
    proto::StorageUsage { used_bytes: used, wal_bytes: wal, growth_bytes_per_day: growth_per_day }
}

fn received<'a>(request: &proto::PingRequestView<'a>) -> ReceivedEvent<'a> {
    ReceivedEvent {
        event_id: request.event_id,
        source: request.source,
        kind: request.kind,
        timestamp_ms: request.timestamp_ms,
    }
}

fn stream_response(batches: i64, recorded: RecordedBatch) -> StreamPingsResponse {
    let refused = |RefusedRecord { index, code, message }| proto::RefusedPing { index, code: code.into(), message };
    let RecordedBatch { accepted, token, refused: all } = recorded;
    StreamPingsResponse { batches, accepted, token, refused: all.into_iter().map(refused).collect() }
}
