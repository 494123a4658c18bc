//! `SourceService` in terms of the read path.

use tonic::Status;

use super::{Api, errors};
use crate::{
    domain::{Span, TimeRange},
    query::{Point, Step},
    wire,
};

impl Api {
    pub(super) async fn source_stats(
        &self,
        request: wire::SourceStatsRequest,
    ) -> Result<wire::SourceStatsResponse, Status> {
        let source = request.source;
        let known = self.sources.stats(&source).await.map_err(|error| errors::source(&error))?;
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
        })
    }

    pub(super) async fn top_sources(
        &self,
        request: wire::TopSourcesRequest,
    ) -> Result<wire::TopSourcesResponse, Status> {
        let range = request.time_range.map(range).transpose()?;
        let sources = self.sources.top(range, request.limit.into()).await.map_err(|error| errors::source(&error))?;
        let sources = sources.into_iter().map(|(source, count)| wire::SourceCount { source, count });
        Ok(wire::TopSourcesResponse { sources: sources.collect() })
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
        let points = self.sources.series(&source, range(asked_range)?, step).await;
        let point = |Point { start, count, average_interval }| wire::SeriesPoint {
            start_ms: start,
            count,
            avg_interval_ms: average_interval,
        };
        let points = points.map_err(|error| errors::source(&error))?.into_iter().map(point);
        Ok(wire::SeriesResponse { points: points.collect() })
    }
}

fn range(asked: wire::TimeRange) -> Result<TimeRange, Status> {
    TimeRange::new(asked.start, asked.end).map_err(|error| errors::invalid_range(&error))
}
