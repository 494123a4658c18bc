//! Client for the pipeline's servers. Requests go through the API server, so they work wherever kubectl works.

use std::{ops::Range, time::Duration};

use anyhow::{Context as _, ensure};
use http::{Request, header};
use kube::Client;
use ping_api::{
    crd::PingPipeline,
    names::Names,
    roles::{Role, ingest_role, query_role},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::Cluster;

/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout of one count or recount, including retries.
const COUNT_TIMEOUT: Duration = Duration::from_secs(120);
const MINUTE_MS: i64 = 60_000;

/// A minute since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Minute(i64);

impl Minute {
    /// Minutes from 2000-01-02 to 2019-12-31: servers accept them, and no real events use them.
    pub(crate) const YEARS: Range<i64> = 15_781_000..26_297_000;

    pub(crate) fn of(minute: i64) -> Self {
        Self(minute)
    }

    pub(crate) fn plus(self, minutes: u16) -> Self {
        Self(self.0 + i64::from(minutes))
    }

    fn start_ms(self) -> i64 {
        self.0 * MINUTE_MS
    }

    /// Timestamp of the `number`th event of this minute, in milliseconds since the Unix epoch.
    pub(crate) fn timestamp_ms(self, number: u64) -> i64 {
        self.start_ms() + i64::try_from(number).unwrap_or_default() % MINUTE_MS
    }
}

/// Result of one attempt to send an event.
pub(crate) enum PingOutcome {
    /// The event is stored and will be counted.
    Acknowledged,
    /// The event may or may not have been stored. It can be retried with the same ID.
    Unknown,
    /// The event was rejected and will not be counted.
    Rejected(String),
}

/// Freshness of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// Whether the database had to response in the cache's connection.
    pub(crate) from_database: bool,
    pub(crate) lag: Duration,
}

#[derive(Clone)]
pub(crate) struct Server {
    client: Client,
    /// Path of the service of ingest servers.
    ingest: String,
    /// Path of the service of query servers.
    query: String,
}

impl Server {
    pub(crate) fn of(cluster: &Cluster, pipeline: &PingPipeline) -> Self {
        let (names, server) = (Names::of(pipeline), &pipeline.spec.server);
        let path = |role: Role| {
            let (service, port) = (names.part(role.component()), server.service.port);
            format!("/api/v1/namespaces/{}/services/http:{service}:{port}/proxy/ping.v1.PingService", cluster.namespace)
        };
        Self { client: cluster.client.clone(), ingest: path(ingest_role(server)), query: path(query_role(server)) }
    }

    /// Sends one event, without retries.
    pub(crate) async fn ping(&self, id: Uuid, timestamp_ms: i64) -> PingOutcome {
        let ping = json!({ "timestampMs": timestamp_ms.to_string(), "eventId": id, "kind": "drill" });
        match self.call(&self.ingest, "Ping", &ping).await {
            Ok(_) => PingOutcome::Acknowledged,
            Err(error) => match error.downcast_ref::<kube::Error>() {
                Some(kube::Error::Api(status)) if is_final(status.code) => {
                    PingOutcome::Rejected(status.message.clone())
                }
                _ => PingOutcome::Unknown,
            },
        }
    }

    /// Number of events in the database from the start of one minute to the start of another.
    pub(crate) async fn count(&self, minutes: Range<Minute>) -> anyhow::Result<i64> {
        let range = json!({ "start": minutes.start.start_ms().to_string(), "end": minutes.end.start_ms().to_string() });
        let response = self.call_with_retries("PingCount", &json!({ "timeRange": range, "strong": true })).await?;
        number(&response, "pingCount")
    }

    /// Requests the total count, as a dashboard would, without retries.
    pub(crate) async fn freshness(&self) -> anyhow::Result<Freshness> {
        let response = self.call(&self.query, "PingCount", &json!({})).await?;
        let lag = Duration::from_millis(u64::try_from(number(&response, "lagMs")?).unwrap_or_default());
        Ok(Freshness { from_database: response["store"] != "STORE_CACHE", lag })
    }

    /// Recounts all rows. Returns whether the cache matches.
    pub(crate) async fn verify(&self) -> anyhow::Result<bool> {
        let response = self.call_with_retries("Verify", &json!({})).await?;
        Ok(response["exact"] == true)
    }

    async fn call_with_retries(&self, method: &str, body: &Value) -> anyhow::Result<Value> {
        let started = tokio::time::Instant::now();
        loop {
            match self.call(&self.query, method, body).await {
                Err(error) if started.elapsed() > COUNT_TIMEOUT => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                response => return response,
            }
        }
    }

    async fn call(&self, path: &str, method: &str, body: &Value) -> anyhow::Result<Value> {
        let request = Request::post(format!("{path}/{method}")).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(serde_json::to_vec(body)?)?;
        let response = tokio::time::timeout(REQUEST_TIMEOUT, self.client.request::<Value>(request)).await;
        let response = response.with_context(|| format!("no response within {REQUEST_TIMEOUT:?}"))??;
        ensure!(response.is_object(), "unexpected response from the server: {response}");
        Ok(response)
    }
}

/// True for client errors that a retry cannot fix: all 4xx codes except for a missing pod, a timeout and rate limiting.
fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && ![404, 408, 429].contains(&code)
}

/// Protobuf JSON encodes 64-bit numbers as strings and may omit zeros.
fn number(response: &Value, name: &str) -> anyhow::Result<i64> {
    match &response[name] {
        Value::Null => Ok(0),
        Value::String(text) => text.parse().with_context(|| format!("{name} is not a number in {response}")),
        other => other.as_i64().with_context(|| format!("{name} is not a number in {response}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_a_minute_has_its_own_timestamp_within_it() {
        let minute = Minute::of(Minute::YEARS.start);
        // 2000-01-02
        assert!(minute.start_ms() > 946_771_200_000, "{}", minute.start_ms());
        assert_eq!(minute.timestamp_ms(0) + 59_999, minute.timestamp_ms(59_999));
        assert_eq!(minute.timestamp_ms(60_000), minute.timestamp_ms(0));
        assert!(minute.timestamp_ms(59_999) < minute.plus(1).timestamp_ms(0));
    }

    #[test]
    fn numbers_come_as_strings() {
        let response = json!({ "pingCount": "42", "lagMs": 7, "asOfMs": "x" });
        assert_eq!(number(&response, "pingCount").unwrap(), 42);
        assert_eq!(number(&response, "lagMs").unwrap(), 7);
        assert_eq!(number(&response, "absent").unwrap(), 0);
        assert!(number(&response, "asOfMs").is_err());
    }

    #[test]
    fn a_missing_pod_is_not_a_rejection() {
        assert!([400, 401, 403, 409].into_iter().all(is_final));
        assert!(![404, 429, 500, 502, 503, 504].into_iter().any(is_final));
    }
}
