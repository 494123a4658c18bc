//! The generated gRPC service traits over [`Api`].

use std::{pin::Pin, time::Duration};

use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, caller::CallerAddress};
use ping_proto::{
    self as proto, event_service_server::EventService, ping_service_server::PingService,
    source_service_server::SourceService,
};

/// The caller's `grpc-timeout`; none if absent or malformed.
fn timeout<T>(request: &Request<T>) -> Option<Duration> {
    parse_timeout(request.metadata().get("grpc-timeout")?.to_str().ok()?)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (value, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = value.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value.checked_mul(3600)?)),
        "M" => Some(Duration::from_secs(value.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[tonic::async_trait]
impl PingService for Api {
    type StreamPingsStream = Pin<Box<dyn Stream<Item = Result<proto::StreamPingsResponse, Status>> + Send>>;

    async fn ping(&self, request: Request<proto::PingRequest>) -> Result<Response<proto::PingResponse>, Status> {
        Self::ping(self, request.into_inner()).await.map(Response::new)
    }

    async fn ping_count(
        &self,
        request: Request<proto::PingCountRequest>,
    ) -> Result<Response<proto::PingCountResponse>, Status> {
        let timeout = timeout(&request);
        Self::ping_count(self, request.into_inner(), timeout).await.map(Response::new)
    }

    async fn stream_pings(
        &self,
        request: Request<Streaming<proto::StreamPingsRequest>>,
    ) -> Result<Response<Self::StreamPingsStream>, Status> {
        Ok(Response::new(Box::pin(Self::stream_pings(self.clone(), request.into_inner()))))
    }

    async fn verify(&self, request: Request<proto::VerifyRequest>) -> Result<Response<proto::VerifyResponse>, Status> {
        Self::verify(self, request.into_inner()).await.map(Response::new)
    }
}

/// The caller's address, as determined by `serve`.
fn caller<T>(request: &Request<T>) -> CallerAddress {
    request.extensions().get().cloned().unwrap_or_default()
}

#[tonic::async_trait]
impl EventService for Api {
    type RecordStreamStream = Pin<Box<dyn Stream<Item = Result<proto::RecordBatchResponse, Status>> + Send>>;

    async fn record(&self, request: Request<proto::RecordRequest>) -> Result<Response<proto::RecordResponse>, Status> {
        let caller = caller(&request);
        Self::record(self, request.into_inner(), &caller).await.map(Response::new)
    }

    async fn record_batch(
        &self,
        request: Request<proto::RecordBatchRequest>,
    ) -> Result<Response<proto::RecordBatchResponse>, Status> {
        let caller = caller(&request);
        Self::record_batch(self, request.into_inner(), &caller).await.map(Response::new)
    }

    async fn record_stream(
        &self,
        request: Request<Streaming<proto::RecordBatchRequest>>,
    ) -> Result<Response<Self::RecordStreamStream>, Status> {
        let caller = caller(&request);
        Ok(Response::new(Box::pin(Self::record_stream(self.clone(), request.into_inner(), caller))))
    }
}

#[tonic::async_trait]
impl SourceService for Api {
    async fn source_stats(
        &self,
        request: Request<proto::SourceStatsRequest>,
    ) -> Result<Response<proto::SourceStatsResponse>, Status> {
        Self::source_stats(self, request.into_inner()).await.map(Response::new)
    }

    async fn top_sources(
        &self,
        request: Request<proto::TopSourcesRequest>,
    ) -> Result<Response<proto::TopSourcesResponse>, Status> {
        Self::top_sources(self, request.into_inner()).await.map(Response::new)
    }

    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        Self::get_status(self, request.into_inner()).await.map(Response::new)
    }

    async fn series(&self, request: Request<proto::SeriesRequest>) -> Result<Response<proto::SeriesResponse>, Status> {
        Self::series(self, request.into_inner()).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_malformed_ones_are_ignored() {
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse_timeout("4S"), Some(Duration::from_secs(4)));
        assert_eq!(parse_timeout("5m"), Some(Duration::from_millis(5)));
        assert_eq!(parse_timeout("6u"), Some(Duration::from_micros(6)));
        assert_eq!(parse_timeout("7n"), Some(Duration::from_nanos(7)));
        for malformed in ["", "S", "1", "1x", "-1S", "18446744073709551615H"] {
            assert_eq!(parse_timeout(malformed), None, "{malformed}");
        }
    }
}
