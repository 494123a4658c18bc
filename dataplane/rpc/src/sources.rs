//! `SourceService`: converts its messages and calls the read path.

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};

use super::{Api, access::Session, errors};
use ping_core::{Span, TimeRange, Verdict};
use ping_identity::Extent;
use ping_proto::{self as proto, SourceService};
use ping_query::{AsOf, Point, Step};

impl SourceService for Api {
    async fn source_stats(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, proto::SourceStatsRequest>,
    ) -> ServiceResult<proto::SourceStatsResponse> {
        let source = request.source;
        Session::of(&context)?.authorize_read(Extent::One(source))?;
        let stats = self.queries()?.sources.stats(source).await.map_err(|error| errors::source(&error))?;
        let AsOf { value: stats, as_of, lag } = stats;
        let all_kinds = stats.kinds.values().copied().reduce(Span::merge);
        let kind = |(kind, span): (Box<str>, Span)| proto::KindStats {
            kind: if kind.is_empty() { "ping".into() } else { kind.into() },
            count: span.count,
            first_seen_ms: span.first,
            last_seen_ms: span.last,
        };
        Response::ok(proto::SourceStatsResponse {
            source: source.to_owned(),
            count: all_kinds.map_or(0, |span| span.count),
            first_seen_ms: all_kinds.map(|span| span.first),
            last_seen_ms: all_kinds.map(|span| span.last),
            last_24h: stats.recent,
            kinds: stats.kinds.into_iter().map(kind).collect(),
            as_of_ms: as_of,
            lag_ms: lag,
        })
    }

    async fn top_sources(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, proto::TopSourcesRequest>,
    ) -> ServiceResult<proto::TopSourcesResponse> {
        // It names sources.
        Session::of(&context)?.authorize_read(Extent::All)?;
        let range = request.time_range.as_option().map(time_range).transpose()?;
        let top = self.queries()?.sources.top(range, request.limit.into()).await;
        let top = top.map_err(|error| errors::source(&error))?;
        let sources = top.value.into_iter().map(|(source, count)| proto::SourceCount { source, count });
        Response::ok(proto::TopSourcesResponse { sources: sources.collect(), as_of_ms: top.as_of, lag_ms: top.lag })
    }

    async fn get_status(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, proto::GetStatusRequest>,
    ) -> ServiceResult<proto::GetStatusResponse> {
        Session::of(&context)?.authorize_read(Extent::One(request.source))?;
        let queries = self.queries()?;
        let status = queries.statuses.of(request.source).await.map_err(|error| errors::source(&error))?;
        let AsOf { value: status, as_of, lag } = status;
        let (verdict, label) = match status.verdict {
            Verdict::Negative => (proto::Verdict::VERDICT_NEGATIVE, &queries.labels.negative),
            Verdict::Positive => (proto::Verdict::VERDICT_POSITIVE, &queries.labels.positive),
            Verdict::Unknown => (proto::Verdict::VERDICT_UNKNOWN, &queries.labels.unknown),
        };
        let store = if status.cached { proto::Store::STORE_CACHE } else { proto::Store::STORE_DATABASE };
        Response::ok(proto::GetStatusResponse {
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

    async fn series(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, proto::SeriesRequest>,
    ) -> ServiceResult<proto::SeriesResponse> {
        let extent = if request.source.is_empty() { Extent::All } else { Extent::One(request.source) };
        Session::of(&context)?.authorize_read(extent)?;
        let step = match request.step.as_known() {
            Some(proto::Step::STEP_UNSPECIFIED) if request.source.is_empty() => Step::Minute,
            Some(proto::Step::STEP_UNSPECIFIED | proto::Step::STEP_FIVE_MINUTES) => Step::FiveMinutes,
            Some(proto::Step::STEP_MINUTE) => Step::Minute,
            Some(proto::Step::STEP_HOUR) => Step::Hour,
            Some(proto::Step::STEP_DAY) => Step::Day,
            None => {
                let message = format!("step {} is unknown; send one of the values of Step", request.step.to_i32());
                return Err(errors::invalid_field("step", message));
            }
        };
        let range = request.time_range.as_option().ok_or_else(|| {
            errors::invalid_field("time_range", "time_range is missing; send one with a start".to_owned())
        })?;
        let series = self.queries()?.sources.series(request.source, time_range(range)?, step).await;
        let AsOf { value: points, as_of, lag } = series.map_err(|error| errors::source(&error))?;
        let point = |Point { start, count, average_interval, closed }| proto::SeriesPoint {
            start_ms: start,
            count,
            avg_interval_ms: average_interval,
            closed,
        };
        Response::ok(proto::SeriesResponse {
            points: points.into_iter().map(point).collect(),
            as_of_ms: as_of,
            lag_ms: lag,
        })
    }
}

fn time_range(range: &proto::TimeRangeView<'_>) -> Result<TimeRange, ConnectError> {
    TimeRange::new(range.start, range.end).map_err(|error| errors::invalid_range(&error))
}
