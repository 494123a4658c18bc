//! Client for the count and freshness that servers report.

use std::time::Duration;

use async_trait::async_trait;
use ping_api::names::Names;
use serde::Deserialize;
use serde_json::json;

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
    /// The response contains an invalid number.
    #[error("invalid response: {field} is not a number: {text:?}")]
    Number {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        text: String,
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

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct PingCountResponse {
    ping_count: String,
    lag_ms: String,
    exact: bool,
    store: String,
    last_audit_ms: Option<String>,
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
        let response = self.client.post(url).json(&json!({})).send().await.map_err(failed)?;
        let body: PingCountResponse = response.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
        Ok(Count {
            total: number("pingCount", body.ping_count)?,
            lag_ms: number("lagMs", body.lag_ms)?,
            exact: body.exact,
            last_audit_ms: body.last_audit_ms.map(|text| number("lastAuditMs", text)).transpose()?,
            store: if body.store == "STORE_DATABASE" { "database" } else { "cache" }.into(),
        })
    }
}

/// Protobuf JSON encodes 64-bit numbers as strings and may omit zeros.
fn number(field: &'static str, text: String) -> Result<i64, StatsError> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| StatsError::Number { field, text }) }
}
