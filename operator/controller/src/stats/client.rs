//! Client for the count and freshness that servers report.

use std::time::Duration;

use async_trait::async_trait;
use ping_api::names::Names;
use ping_proto::{PingCountRequest, PingCountResponse, Store};

/// Timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Count and freshness of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Number of acknowledged events.
    pub total: i64,
    /// Age of the count in milliseconds.
    pub lag_ms: i64,
    /// Whether the count is known to be exact.
    pub exact: bool,
    /// Store that answered: `cache` or `database`.
    pub store: String,
    /// Time at which an audit last found the cache equal to the database, in milliseconds since the Unix epoch.
    pub last_audit_ms: Option<i64>,
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// No response, or an error response.
    #[error("no server responded at {address}")]
    Request {
        /// Address of the server.
        address: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The response is not a `PingCountResponse`.
    #[error("invalid response from {address}")]
    Response {
        /// Address of the server.
        address: String,
        /// The cause.
        source: serde_json::Error,
    },
}

/// Requests the count of a pipeline from one of its servers.
#[async_trait]
pub trait StatsClient: Send + Sync {
    /// Requests the count of the pipeline with these names, from `port` of `service`.
    async fn count(&self, names: &Names, service: &str, port: i32) -> Result<Count, StatsError>;
}

/// Sends requests over HTTP.
pub struct HttpStatsClient {
    client: reqwest::Client,
    address: String,
}

impl HttpStatsClient {
    /// `address` is a URL template with the placeholders `{name}` and `{namespace}` (of the pipeline), `{service}` and `{port}` (of
    /// the servers that answer queries).
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub fn new(address: impl Into<String>) -> Result<Self, reqwest::Error> {
        Ok(Self { client: reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build()?, address: address.into() })
    }
}

#[async_trait]
impl StatsClient for HttpStatsClient {
    async fn count(&self, names: &Names, service: &str, port: i32) -> Result<Count, StatsError> {
        let address = self
            .address
            .replace("{namespace}", &names.namespace)
            .replace("{name}", &names.pipeline)
            .replace("{service}", service)
            .replace("{port}", &port.to_string());
        let url = format!("{address}/ping.v1.PingService/PingCount");
        let failed = |source| StatsError::Request { address: address.clone(), source };
        let response = self.client.post(url).json(&PingCountRequest::default()).send().await.map_err(failed)?;
        let body = response.error_for_status().map_err(failed)?.bytes().await.map_err(failed)?;
        let response: PingCountResponse = serde_json::from_slice(&body)
            .map_err(|source| StatsError::Response { address: address.clone(), source })?;
        Ok(Count {
            total: response.ping_count,
            lag_ms: response.lag_ms,
            exact: response.exact,
            last_audit_ms: response.last_audit_ms,
            store: if response.store.as_known() == Some(Store::Database) { "database" } else { "cache" }.into(),
        })
    }
}
