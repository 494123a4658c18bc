//! `SourceService` in terms of the read path.

use tonic::Status;

use super::{Answers, Api, errors};
use ping_core::{Span, TimeRange};
use ping_proto as proto;
use ping_query::{Dated, Point, Step};

/// What the verdicts are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusLabels {
    /// Something against it happened.
    pub negative: String,
    /// Enough happened in its favour.
    pub positive: String,
    /// Too little happened.
    pub unknown: String,
}

impl Api {
    pub(super) async fn source_stats(
        &self,
        request: proto::SourceStatsRequest,
    ) -> Result<proto::SourceStatsResponse, Status> {
        let source = request.source;
        let known = self.answers()?.sources.stats(&source).await.map_err(|error| errors::source(&error))?;
        let Dated { value: known, as_of, lag } = known;
        let whole = known.kinds.values().copied().reduce(Span::merge);
        let kind = |(kind, span): (Box<str>, Span)| proto::KindStats {
            kind: if kind.is_empty() { "ping".into() } else { kind.into() },
            count: span.count,
            first_seen_ms: span.first,
            last_seen_ms: span.last,
        };
        Ok(proto::SourceStatsResponse {
            source,
            count: whole.map_or(0, |span| span.count),
            first_seen_ms: whole.map(|span| span.first),
            last_seen_ms: whole.map(|span| span.last),
            last_24h: known.recent,
            kinds: known.kinds.into_iter().map(kind).collect(),
            as_of_ms: as_of,
            lag_ms: lag,
        })
    }

    pub(super) async fn top_sources(
        &self,
        request: proto::TopSourcesRequest,
    ) -> Result<proto::TopSourcesResponse, Status> {
        let range = request.time_range.map(range).transpose()?;
        let top =
            self.answers()?.sources.top(range, request.limit.into()).await.map_err(|error| errors::source(&error))?;
        let sources = top.value.into_iter().map(|(source, count)| proto::SourceCount { source, count });
        Ok(proto::TopSourcesResponse { sources: sources.collect(), as_of_ms: top.as_of, lag_ms: top.lag })
    }

    pub(super) async fn get_status(
        &self,
        request: proto::GetStatusRequest,
    ) -> Result<proto::GetStatusResponse, Status> {
        let Answers { statuses, labels, .. } = self.answers()?;
        let found = statuses.of(&request.source).await.map_err(|error| errors::source(&error))?;
        let Dated { value: found, as_of, lag } = found;
        let (verdict, name) = match found.status {
            ping_core::Verdict::Negative => (proto::Verdict::Negative, &labels.negative),
            ping_core::Verdict::Positive => (proto::Verdict::Positive, &labels.positive),
            ping_core::Verdict::Unknown => (proto::Verdict::Unknown, &labels.unknown),
        };
        let store = if found.cached { proto::Store::Cache } else { proto::Store::Database };
        Ok(proto::GetStatusResponse {
            status: name.clone(),
            verdict: verdict.into(),
            r#final: found.last,
            negative_events: found.counts.negative,
            positive_events: found.counts.positive,
            store: store.into(),
            as_of_ms: as_of,
            lag_ms: lag,
        })
    }

    pub(super) async fn series(&self, request: proto::SeriesRequest) -> Result<proto::SeriesResponse, Status> {
        let asked = request.step();
        let proto::SeriesRequest { source, time_range, .. } = request;
        let Some(asked_range) = time_range else {
            return Err(Status::invalid_argument("time_range is missing; send one with a start"));
        };
        let step = match asked {
            proto::Step::Unspecified if source.is_empty() => Step::Minute,
            proto::Step::Unspecified | proto::Step::FiveMinutes => Step::FiveMinutes,
            proto::Step::Minute => Step::Minute,
            proto::Step::Hour => Step::Hour,
            proto::Step::Day => Step::Day,
        };
        let points = self.answers()?.sources.series(&source, range(asked_range)?, step).await;
        let point = |Point { start, count, average_interval, closed }| proto::SeriesPoint {
            start_ms: start,
            count,
            avg_interval_ms: average_interval,
            closed,
        };
        let Dated { value: points, as_of, lag } = points.map_err(|error| errors::source(&error))?;
        Ok(proto::SeriesResponse { points: points.into_iter().map(point).collect(), as_of_ms: as_of, lag_ms: lag })
    }
}

fn range(asked: proto::TimeRange) -> Result<TimeRange, Status> {
    TimeRange::new(asked.start, asked.end).map_err(|error| errors::invalid_range(&error))
}
