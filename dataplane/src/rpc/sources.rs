//! `SourceService` in terms of the read path.

use tonic::Status;

use super::{Answers, Api, errors};
use crate::{
    domain::{self, Span, TimeRange},
    query::{Dated, Point, Step},
    wire,
};

/// What the verdicts are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusNames {
    /// Something against it happened.
    pub not: String,
    /// Enough happened in its favour.
    pub yes: String,
    /// Too little happened.
    pub unknown: String,
}

impl Api {
    pub(super) async fn source_stats(
        &self,
        request: wire::SourceStatsRequest,
    ) -> Result<wire::SourceStatsResponse, Status> {
        let source = request.source;
        let known = self.answers()?.sources.stats(&source).await.map_err(|error| errors::source(&error))?;
        let Dated { value: known, as_of, lag } = known;
        let whole = known.kinds.values().copied().reduce(Span::merge);
        let kind = |(kind, span): (Box<str>, Span)| wire::KindStats {
            kind: if kind.is_empty() { "ping".into() } else { kind.into() },
            count: span.count,
            first_seen_ms: span.first,
            last_seen_ms: span.last,
        };
        Ok(wire::SourceStatsResponse {
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
        request: wire::TopSourcesRequest,
    ) -> Result<wire::TopSourcesResponse, Status> {
        let range = request.time_range.map(range).transpose()?;
        let top =
            self.answers()?.sources.top(range, request.limit.into()).await.map_err(|error| errors::source(&error))?;
        let sources = top.value.into_iter().map(|(source, count)| wire::SourceCount { source, count });
        Ok(wire::TopSourcesResponse { sources: sources.collect(), as_of_ms: top.as_of, lag_ms: top.lag })
    }

    pub(super) async fn get_status(&self, request: wire::GetStatusRequest) -> Result<wire::GetStatusResponse, Status> {
        let Answers { statuses, names, .. } = self.answers()?;
        let found = statuses.of(&request.source).await.map_err(|error| errors::source(&error))?;
        let Dated { value: found, as_of, lag } = found;
        let (verdict, name) = match found.status {
            domain::Status::Not => (wire::Verdict::Not, &names.not),
            domain::Status::Yes => (wire::Verdict::Yes, &names.yes),
            domain::Status::Unknown => (wire::Verdict::Unknown, &names.unknown),
        };
        let store = if found.cached { wire::Store::Cache } else { wire::Store::Database };
        Ok(wire::GetStatusResponse {
            status: name.clone(),
            verdict: verdict.into(),
            r#final: found.last,
            against: found.evidence.not,
            in_favour: found.evidence.yes,
            store: store.into(),
            as_of_ms: as_of,
            lag_ms: lag,
        })
    }

    pub(super) async fn series(&self, request: wire::SeriesRequest) -> Result<wire::SeriesResponse, Status> {
        let asked = request.step();
        let wire::SeriesRequest { source, time_range, .. } = request;
        let Some(asked_range) = time_range else {
            return Err(Status::invalid_argument("time_range is missing; send one with a start"));
        };
        let step = match asked {
            wire::Step::Unspecified if source.is_empty() => Step::Minute,
            wire::Step::Unspecified | wire::Step::FiveMinutes => Step::FiveMinutes,
            wire::Step::Minute => Step::Minute,
            wire::Step::Hour => Step::Hour,
            wire::Step::Day => Step::Day,
        };
        let points = self.answers()?.sources.series(&source, range(asked_range)?, step).await;
        let point = |Point { start, count, average_interval, closed }| wire::SeriesPoint {
            start_ms: start,
            count,
            avg_interval_ms: average_interval,
            closed,
        };
        let Dated { value: points, as_of, lag } = points.map_err(|error| errors::source(&error))?;
        Ok(wire::SeriesResponse { points: points.into_iter().map(point).collect(), as_of_ms: as_of, lag_ms: lag })
    }
}

fn range(asked: wire::TimeRange) -> Result<TimeRange, Status> {
    TimeRange::new(asked.start, asked.end).map_err(|error| errors::invalid_range(&error))
}
