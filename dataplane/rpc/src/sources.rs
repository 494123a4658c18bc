//! `SourceService`: converts its messages and calls the read path.

use tonic::Status;

use super::{Api, errors};
use ping_core::{Span, TimeRange, Verdict};
use ping_proto as proto;
use ping_query::{AsOf, Point, Step};

impl Api {
    pub(super) async fn source_stats(
        &self,
        request: proto::SourceStatsRequest,
    ) -> Result<proto::SourceStatsResponse, Status> {
        let source = request.source;
        let stats = self.queries()?.sources.stats(&source).await.map_err(|error| errors::source(&error))?;
        let AsOf { value: stats, as_of, lag } = stats;
        let all_kinds = stats.kinds.values().copied().reduce(Span::merge);
        let kind = |(kind, span): (Box<str>, Span)| proto::KindStats {
            kind: if kind.is_empty() { "ping".into() } else { kind.into() },
            count: span.count,
            first_seen_ms: span.first,
            last_seen_ms: span.last,
        };
        Ok(proto::SourceStatsResponse {
            source,
            count: all_kinds.map_or(0, |span| span.count),
            first_seen_ms: all_kinds.map(|span| span.first),
            last_seen_ms: all_kinds.map(|span| span.last),
            last_24h: stats.recent,
            kinds: stats.kinds.into_iter().map(kind).collect(),
            as_of_ms: as_of,
            lag_ms: lag,
        })
    }

    pub(super) async fn top_sources(
        &self,
        request: proto::TopSourcesRequest,
    ) -> Result<proto::TopSourcesResponse, Status> {
        let range = request.time_range.map(time_range).transpose()?;
        let top = self.queries()?.sources.top(range, request.limit.into()).await;
        let top = top.map_err(|error| errors::source(&error))?;
        let sources = top.value.into_iter().map(|(source, count)| proto::SourceCount { source, count });
        Ok(proto::TopSourcesResponse { sources: sources.collect(), as_of_ms: top.as_of, lag_ms: top.lag })
    }

    pub(super) async fn get_status(
        &self,
        request: proto::GetStatusRequest,
    ) -> Result<proto::GetStatusResponse, Status> {
        let queries = self.queries()?;
        let status = queries.statuses.of(&request.source).await.map_err(|error| errors::source(&error))?;
        let AsOf { value: status, as_of, lag } = status;
        let (verdict, label) = match status.verdict {
            Verdict::Negative => (proto::Verdict::Negative, &queries.labels.negative),
            Verdict::Positive => (proto::Verdict::Positive, &queries.labels.positive),
            Verdict::Unknown => (proto::Verdict::Unknown, &queries.labels.unknown),
        };
        let store = if status.cached { proto::Store::Cache } else { proto::Store::Database };
        Ok(proto::GetStatusResponse {
            status: label.clone(),
            verdict: verdict.into(),
            r#final: status.is_final,
            negative_events: status.counts.negative,
            positive_events: status.counts.positive,
            store: store.into(),
            as_of_ms: as_of,
            lag_ms: lag,
        })
    }

    pub(super) async fn series(&self, request: proto::SeriesRequest) -> Result<proto::SeriesResponse, Status> {
        let step = match request.step() {
            proto::Step::Unspecified if request.source.is_empty() => Step::Minute,
            proto::Step::Unspecified | proto::Step::FiveMinutes => Step::FiveMinutes,
            proto::Step::Minute => Step::Minute,
            proto::Step::Hour => Step::Hour,
            proto::Step::Day => Step::Day,
        };
        let Some(range) = request.time_range else {
            return Err(Status::invalid_argument("time_range is missing; send one with a start"));
        };
        let series = self.queries()?.sources.series(&request.source, time_range(range)?, step).await;
        let AsOf { value: points, as_of, lag } = series.map_err(|error| errors::source(&error))?;
        let point = |Point { start, count, average_interval, closed }| proto::SeriesPoint {
            start_ms: start,
            count,
            avg_interval_ms: average_interval,
            closed,
        };
        Ok(proto::SeriesResponse { points: points.into_iter().map(point).collect(), as_of_ms: as_of, lag_ms: lag })
    }
}

fn time_range(range: proto::TimeRange) -> Result<TimeRange, Status> {
    TimeRange::new(range.start, range.end).map_err(|error| errors::invalid_range(&error))
}
