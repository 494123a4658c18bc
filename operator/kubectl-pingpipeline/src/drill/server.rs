//! Client for the pipeline's servers. Connections go through the API server, so they work wherever kubectl works.

use std::{ops::Range, sync::Arc, time::Duration};

use anyhow::Context as _;
use ping_api::{
    crd::PingPipeline,
    roles::{Role, ingest_role, query_role},
};
use ping_proto::{PingCountRequest, PingCountResponse, PingRequest, PingResponse, Store, TimeRange};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    caller::{CallError, Caller, is_final},
    cluster::Cluster,
    recount::Recounter,
};

const SERVICE: &str = "ping.v1.PingService";
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
        self.start_ms() + (number % MINUTE_MS.unsigned_abs()).cast_signed()
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
    /// Whether the database answered because the cache could not.
    pub(crate) from_database: bool,
    pub(crate) lag: Duration,
}

#[derive(Clone)]
pub(crate) struct Server {
    ingest: Arc<Caller>,
    query: Arc<Caller>,
    recounter: Arc<Recounter>,
}

impl Server {
    /// Connects to the servers of `pipeline`.
    ///
    /// # Errors
    /// See [`Caller::connect`].
    pub(crate) async fn connect(cluster: &Cluster, pipeline: &PingPipeline) -> anyhow::Result<Self> {
        let spec = &pipeline.spec.server;
        let connect = async |role: Role| Caller::connect(cluster, pipeline, role, "api", REQUEST_TIMEOUT).await;
        Ok(Self {
            ingest: Arc::new(connect(ingest_role(spec)).await?),
            query: Arc::new(connect(query_role(spec)).await?),
            recounter: Arc::new(Recounter::connect(cluster, pipeline).await?),
        })
    }

    /// Sends one event, without retries.
    pub(crate) async fn ping(&self, id: Uuid, timestamp_ms: i64) -> PingOutcome {
        let ping =
            PingRequest { timestamp_ms, event_id: id.to_string(), kind: "drill".into(), ..PingRequest::default() };
        match self.ingest.call::<PingResponse>(&format!("{SERVICE}/Ping"), &ping).await {
            Ok(_) => PingOutcome::Acknowledged,
            Err(CallError::Status(code, message)) if is_final(code) => PingOutcome::Rejected(message),
            Err(_) => PingOutcome::Unknown,
        }
    }

    /// Number of events in the database from the start of one minute to the start of another.
    pub(crate) async fn count(&self, minutes: Range<Minute>) -> anyhow::Result<i64> {
        let time_range = TimeRange { start: minutes.start.start_ms(), end: minutes.end.start_ms() };
        let request =
            PingCountRequest { time_range: Some(time_range).into(), strong: true, ..PingCountRequest::default() };
        let response: PingCountResponse = self.call_with_retries("PingCount", &request).await?;
        Ok(response.ping_count)
    }

    /// Number of events in the database.
    pub(crate) async fn total(&self) -> anyhow::Result<i64> {
        let request = PingCountRequest { strong: true, ..PingCountRequest::default() };
        let response: PingCountResponse = self.call_with_retries("PingCount", &request).await?;
        Ok(response.ping_count)
    }

    /// Requests the total count, as a dashboard would, without retries.
    pub(crate) async fn freshness(&self) -> anyhow::Result<Freshness> {
        let request = PingCountRequest::default();
        let response: PingCountResponse = self.query.call(&format!("{SERVICE}/PingCount"), &request).await?;
        let lag = u64::try_from(response.lag_ms).with_context(|| format!("lag_ms is negative: {}", response.lag_ms))?;
        Ok(Freshness {
            from_database: response.store.as_known() != Some(Store::Cache),
            lag: Duration::from_millis(lag),
        })
    }

    /// Recounts all rows. Returns whether the cache matches.
    pub(crate) async fn verify(&self) -> anyhow::Result<bool> {
        let started = tokio::time::Instant::now();
        loop {
            match self.recounter.recount().await {
                Err(error) if started.elapsed() > COUNT_TIMEOUT => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                Ok(response) => return Ok(response.exact),
            }
        }
    }

    async fn call_with_retries<T: DeserializeOwned>(&self, method: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let started = tokio::time::Instant::now();
        loop {
            match self.query.call(&format!("{SERVICE}/{method}"), body).await {
                Err(error) if started.elapsed() > COUNT_TIMEOUT => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                Ok(response) => return Ok(response),
            }
        }
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
    fn responses_have_numbers_as_strings_and_may_omit_zeros() {
        let response: PingCountResponse = serde_json::from_str(r#"{"pingCount": "42", "lagMs": 7}"#).unwrap();
        assert_eq!((response.ping_count, response.lag_ms, response.as_of_ms), (42, 7, 0));
        assert!(serde_json::from_str::<PingCountResponse>(r#"{"asOfMs": "x"}"#).is_err());
    }
}
