//! The pipeline's servers, asked through the API server: what kubectl reaches, this reaches.

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

/// Longest time for one answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// Longest time for one count or recount, with its retries.
const COUNTS_WITHIN: Duration = Duration::from_secs(120);
const MINUTE_MS: i64 = 60_000;

/// A minute since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Minute(i64);

impl Minute {
    /// Minutes from 2000-01-02 to 2019-12-31: after the first time that a server takes, and before there were pings.
    pub(crate) const YEARS: Range<i64> = 15_781_000..26_297_000;

    pub(crate) fn of(minute: i64) -> Self {
        Self(minute)
    }

    pub(crate) fn later(self, minutes: u16) -> Self {
        Self(self.0 + i64::from(minutes))
    }

    fn start_ms(self) -> i64 {
        self.0 * MINUTE_MS
    }

    /// The time of the `number`th ping of this minute, in milliseconds since the Unix epoch.
    pub(crate) fn at(self, number: u64) -> i64 {
        self.start_ms() + i64::try_from(number).unwrap_or_default() % MINUTE_MS
    }
}

/// What became of one try.
pub(crate) enum Answer {
    /// From now on it is counted.
    Acknowledged,
    /// Nobody knows; it may be sent again with the same id.
    Unknown,
    /// It will never be counted.
    Refused(String),
}

/// How good an answer to a count was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// Whether the database had to answer in the cache's connection.
    pub(crate) from_database: bool,
    pub(crate) lag: Duration,
}

#[derive(Clone)]
pub(crate) struct Server {
    client: Client,
    /// Where pings are taken.
    ingest: String,
    /// Where questions are answered.
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

    /// Sends one ping, once.
    pub(crate) async fn ping(&self, id: Uuid, at_ms: i64) -> Answer {
        let ping = json!({ "timestampMs": at_ms.to_string(), "eventId": id, "kind": "drill" });
        match self.ask(&self.ingest, "Ping", &ping).await {
            Ok(_) => Answer::Acknowledged,
            Err(error) => match error.downcast_ref::<kube::Error>() {
                Some(kube::Error::Api(status)) if is_final(status.code) => Answer::Refused(status.message.clone()),
                _ => Answer::Unknown,
            },
        }
    }

    /// How many pings the database holds from the start of one minute to the start of another.
    pub(crate) async fn count(&self, minutes: Range<Minute>) -> anyhow::Result<i64> {
        let range = json!({ "start": minutes.start.start_ms().to_string(), "end": minutes.end.start_ms().to_string() });
        let answer = self.insist("PingCount", &json!({ "timeRange": range, "strong": true })).await?;
        number(&answer, "pingCount")
    }

    /// Asks for the count of all as a dashboard would, once.
    pub(crate) async fn freshness(&self) -> anyhow::Result<Freshness> {
        let answer = self.ask(&self.query, "PingCount", &json!({})).await?;
        let lag = Duration::from_millis(u64::try_from(number(&answer, "lagMs")?).unwrap_or_default());
        Ok(Freshness { from_database: answer["store"] != "STORE_CACHE", lag })
    }

    /// Has every row recounted.
    pub(crate) async fn verify(&self) -> anyhow::Result<bool> {
        let answer = self.insist("Verify", &json!({})).await?;
        Ok(answer["exact"] == true)
    }

    async fn insist(&self, method: &str, body: &Value) -> anyhow::Result<Value> {
        let asked = tokio::time::Instant::now();
        loop {
            match self.ask(&self.query, method, body).await {
                Err(error) if asked.elapsed() > COUNTS_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                answer => return answer,
            }
        }
    }

    async fn ask(&self, path: &str, method: &str, body: &Value) -> anyhow::Result<Value> {
        let request = Request::post(format!("{path}/{method}")).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(serde_json::to_vec(body)?)?;
        let answer = tokio::time::timeout(ANSWERS_WITHIN, self.client.request::<Value>(request)).await;
        let answer = answer.with_context(|| format!("no answer within {ANSWERS_WITHIN:?}"))??;
        ensure!(answer.is_object(), "that is no answer of a server: {answer}");
        Ok(answer)
    }
}

/// Whether sending the same again would only be refused again: the fault of who asks, but for "later" and "too slow".
fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && ![404, 408, 429].contains(&code)
}

/// 64-bit numbers are strings; a zero may be absent.
fn number(answer: &Value, name: &str) -> anyhow::Result<i64> {
    match &answer[name] {
        Value::Null => Ok(0),
        Value::String(text) => text.parse().with_context(|| format!("{name} is no number in {answer}")),
        other => other.as_i64().with_context(|| format!("{name} is no number in {answer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ping_of_a_minute_has_a_time_of_its_own_within_it() {
        let minute = Minute::of(Minute::YEARS.start);
        // 2000-01-02
        assert!(minute.start_ms() > 946_771_200_000, "{}", minute.start_ms());
        assert_eq!(minute.at(0) + 59_999, minute.at(59_999));
        assert_eq!(minute.at(60_000), minute.at(0));
        assert!(minute.at(59_999) < minute.later(1).at(0));
    }

    #[test]
    fn numbers_come_as_strings() {
        let answer = json!({ "pingCount": "42", "lagMs": 7, "asOfMs": "x" });
        assert_eq!(number(&answer, "pingCount").unwrap(), 42);
        assert_eq!(number(&answer, "lagMs").unwrap(), 7);
        assert_eq!(number(&answer, "absent").unwrap(), 0);
        assert!(number(&answer, "asOfMs").is_err());
    }

    #[test]
    fn a_pod_that_is_gone_refuses_nothing() {
        assert!([400, 401, 403, 409].into_iter().all(is_final));
        assert!(![404, 429, 500, 502, 503, 504].into_iter().any(is_final));
    }
}
