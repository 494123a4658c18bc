//! How a server is asked.

use std::time::Duration;

use async_trait::async_trait;
use ping_api::names::Names;
use serde::Deserialize;
use serde_json::json;

/// A server that takes longer has not answered.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// All acknowledged pings.
    pub total: i64,
    /// How old the number is, in milliseconds.
    pub lag_ms: i64,
    /// Whether the number is beyond doubt.
    pub exact: bool,
    /// `cache` or `database`.
    pub store: String,
    /// When an audit last found the cache equal to the database, in milliseconds since the Unix epoch.
    pub last_audit_ms: Option<i64>,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The request failed.
    #[error("no server answered at {address}")]
    Request {
        /// Where.
        address: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer makes no sense.
    #[error("{field} of the answer is no number: {text:?}")]
    Number {
        /// Which field.
        field: &'static str,
        /// What it holds.
        text: String,
    },
}

/// How a server is asked.
#[async_trait]
pub trait Ask: Send + Sync {
    /// Asks a server of the pipeline with these names, behind `port` of `service`.
    async fn ask(&self, names: &Names, service: &str, port: i32) -> Result<Answer, AskError>;
}

/// Asks over HTTP.
pub struct HttpAsk {
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

impl HttpAsk {
    /// `address` may hold `{name}` and `{namespace}` of the pipeline, `{service}` and `{port}` of the servers that answer.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(address: impl Into<String>) -> Result<Self, reqwest::Error> {
        Ok(Self { client: reqwest::Client::builder().timeout(TIMEOUT).build()?, address: address.into() })
    }
}

#[async_trait]
impl Ask for HttpAsk {
    async fn ask(&self, names: &Names, service: &str, port: i32) -> Result<Answer, AskError> {
        let address = self
            .address
            .replace("{namespace}", &names.namespace)
            .replace("{name}", &names.pipeline)
            .replace("{service}", service)
            .replace("{port}", &port.to_string());
        let url = format!("{address}/ping.v1.PingService/PingCount");
        let failed = |source| AskError::Request { address: address.clone(), source };
        let response = self.client.post(url).json(&json!({})).send().await.map_err(failed)?;
        let answer: PingCountResponse = response.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
        Ok(Answer {
            total: number("pingCount", answer.ping_count)?,
            lag_ms: number("lagMs", answer.lag_ms)?,
            exact: answer.exact,
            last_audit_ms: answer.last_audit_ms.map(|text| number("lastAuditMs", text)).transpose()?,
            store: if answer.store == "STORE_DATABASE" { "database" } else { "cache" }.into(),
        })
    }
}

/// JSON of protobuf writes 64-bit numbers as strings, and may leave zeros out.
fn number(field: &'static str, text: String) -> Result<i64, AskError> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| AskError::Number { field, text }) }
}
