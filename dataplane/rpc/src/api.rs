//! The service in wire types, whatever the transport.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{StatusLabels, errors};
use crate::RpcMetrics;
use ping_core::{Event, TimeRange};
use ping_ingest::Ingest;
use ping_ports::Clock;
use ping_proto as proto;
use ping_query::{AnsweredBy, CountQuery, Question, SourceQuery, StatusQuery};

/// Longest time a reader may wait for its own write.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// An answer this long before the caller's own deadline arrives in time.
const HEAD_START: Duration = Duration::from_millis(20);
/// Most pings in a batch of a stream.
const MAX_BATCH: usize = 10_000;
/// Batches of one stream that may be under way before the server stops reading it.
const IN_FLIGHT: usize = 64;

/// The read path, for servers that answer.
#[derive(Clone)]
pub struct Answers {
    /// Counts.
    pub reader: CountQuery,
    /// What is known per source.
    pub sources: SourceQuery,
    /// What sources are.
    pub statuses: StatusQuery,
    /// What that is called.
    pub labels: StatusLabels,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    ingest: Option<Ingest>,
    answers: Option<Arc<Answers>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<RpcMetrics>,
    shutdown: CancellationToken,
}

impl Api {
    /// The service over the two paths, or one of them. Streams end at `shutdown`, with everything acknowledged that was read.
    #[must_use]
    pub fn new(
        ingest: Option<Ingest>,
        answers: Option<Answers>,
        clock: Arc<dyn Clock>,
        metrics: Arc<RpcMetrics>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { ingest, answers: answers.map(Arc::new), clock, metrics, shutdown }
    }

    /// The service for each lane of the write path, to be shared out among connections.
    pub(super) fn per_lane(&self) -> Vec<Self> {
        let Some(ingest) = &self.ingest else { return vec![self.clone()] };
        ingest.lane_handles().into_iter().map(|lane| Self { ingest: Some(lane), ..self.clone() }).collect()
    }

    fn ingest(&self) -> Result<&Ingest, Status> {
        let elsewhere = "this server only answers (--role query); send events to one that takes them";
        self.ingest.as_ref().ok_or_else(|| Status::failed_precondition(elsewhere))
    }

    pub(super) fn answers(&self) -> Result<&Answers, Status> {
        let elsewhere = "this server only takes events (--role ingest); ask one that answers";
        self.answers.as_deref().ok_or_else(|| Status::failed_precondition(elsewhere))
    }

    fn accept(&self, ping: &proto::PingRequest) -> Result<Event, Status> {
        Event::accept(
            ping.timestamp_ms,
            &ping.event_id,
            &ping.source,
            &ping.kind,
            self.clock.now(),
            ping_ingest::new_event_id,
        )
        .map_err(|error| {
            self.metrics.invalid.get_or_create(&[("reason", error.reason())]).inc();
            errors::invalid(&error)
        })
    }

    pub(super) async fn ping(&self, request: proto::PingRequest) -> Result<proto::PingResponse, Status> {
        let event = self.accept(&request)?;
        let id = event.id;
        let receipt = self.ingest()?.submit(vec![event]).await.map_err(|refusal| errors::refused(&refusal))?;
        if !receipt.conflicts.is_empty() {
            self.metrics.conflicts.inc();
            return Err(Status::already_exists(errors::CONFLICT));
        }
        self.metrics.pings.inc();
        if !request.receipt {
            return Ok(proto::PingResponse::default());
        }
        let token = receipt.token.map(|token| token.to_string());
        Ok(proto::PingResponse { event_id: Some(id.to_string()), token })
    }

    /// Acknowledges batches in order; several are under way at once.
    pub(super) fn stream_pings(
        self,
        batches: impl Stream<Item = Result<proto::StreamPingsRequest, Status>> + Send + 'static,
    ) -> impl Stream<Item = Result<proto::StreamPingsResponse, Status>> + Send + 'static {
        batches
            .take_until(self.shutdown.clone().cancelled_owned())
            .map_ok(move |batch| {
                let api = self.clone();
                async move { api.record(batch.pings).await }
            })
            .try_buffered(IN_FLIGHT)
            .enumerate()
            .map(|(place, answer)| {
                answer.map(|answer| proto::StreamPingsResponse {
                    batches: i64::try_from(place).unwrap_or(i64::MAX).saturating_add(1),
                    ..answer
                })
            })
    }

    pub(super) async fn record(&self, pings: Vec<proto::PingRequest>) -> Result<proto::StreamPingsResponse, Status> {
        if pings.len() > MAX_BATCH {
            let message = format!("a batch of {} pings; send at most {MAX_BATCH} at once", pings.len());
            return Err(Status::invalid_argument(message));
        }
        let mut refused = Vec::new();
        let mut places = Vec::with_capacity(pings.len());
        let mut events = Vec::with_capacity(pings.len());
        for (index, ping) in pings.iter().enumerate() {
            match self.accept(ping) {
                Ok(event) => {
                    places.push(index);
                    events.push(event);
                }
                Err(status) => refused.push(refusal(index, "invalid_argument", status.message())),
            }
        }
        let receipt = self.ingest()?.submit_when_room(events).await.map_err(|refusal| errors::refused(&refusal))?;
        let conflicts = receipt.conflicts.iter().filter_map(|place| places.get(*place));
        refused.extend(conflicts.map(|index| refusal(*index, "already_exists", errors::CONFLICT)));
        self.metrics.conflicts.inc_by(receipt.conflicts.len() as u64);
        self.metrics.pings.inc_by((pings.len() - refused.len()) as u64);
        Ok(proto::StreamPingsResponse {
            batches: 0,
            accepted: i64::try_from(receipt.accepted).unwrap_or(i64::MAX),
            token: receipt.token.map(|token| token.to_string()),
            refused,
        })
    }

    pub(super) async fn ping_count(
        &self,
        request: proto::PingCountRequest,
        timeout: Option<Duration>,
    ) -> Result<proto::PingCountResponse, Status> {
        let range = request.time_range.map(|range| TimeRange::new(range.start, range.end)).transpose();
        let range = range.map_err(|error| errors::invalid_range(&error))?;
        let after = (!request.after.is_empty()).then(|| request.after.parse()).transpose();
        let after = after.map_err(|error| Status::invalid_argument(format!("after: {error}")))?;
        let wait = timeout.map_or(MAX_WAIT, |timeout| timeout.saturating_sub(HEAD_START)).min(MAX_WAIT);
        let deadline = Instant::now() + wait;
        let question = Question { range, strong: request.strong, after };
        let answer =
            self.answers()?.reader.count(question, deadline).await.map_err(|error| errors::unanswered(&error))?;
        self.metrics.counts.inc();
        let store = match answer.by {
            AnsweredBy::Cache => proto::Store::Cache,
            AnsweredBy::Store => {
                self.metrics.store_reads.inc();
                proto::Store::Database
            }
        };
        Ok(proto::PingCountResponse {
            ping_count: answer.count,
            as_of_ms: answer.as_of,
            lag_ms: answer.lag,
            exact: answer.exact,
            store: store.into(),
            last_audit_ms: answer.last_audit,
        })
    }

    pub(super) async fn verify(&self, _: proto::VerifyRequest) -> Result<proto::VerifyResponse, Status> {
        let found = self.answers()?.reader.verify().await.map_err(|error| errors::unavailable(&error))?;
        Ok(proto::VerifyResponse {
            exact: found.differences.is_empty(),
            rows: found.recount.rows,
            total: found.recount.total,
            minutes_total: found.recount.minutes_total,
            days_total: found.recount.days_total,
            cache_total: found.cache_total,
            minutes_compared: i64::try_from(found.minutes).unwrap_or(i64::MAX),
            differences: found.differences,
        })
    }
}

fn refusal(index: usize, code: &str, message: &str) -> proto::RefusedPing {
    proto::RefusedPing {
        index: i32::try_from(index).unwrap_or(i32::MAX),
        code: code.to_owned(),
        message: message.to_owned(),
    }
}
