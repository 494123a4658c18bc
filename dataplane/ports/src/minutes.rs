//! Summaries of closed minutes.

use async_trait::async_trait;

use super::log::LogError;
use ping_core::Minute;

/// A summary of a closed minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MinuteSummary {
    /// The minute since the Unix epoch.
    #[serde(serialize_with = "number")]
    pub minute: Minute,
    /// Events that happened in it.
    pub count: i64,
    /// Distinct sources of those events.
    pub unique: i64,
}

fn number<S: serde::Serializer>(minute: &Minute, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(minute.0)
}

/// Publishes summaries. A later summary of the same minute replaces the earlier one.
#[async_trait]
pub trait MinuteTopic: Send + Sync {
    /// Publishes these; returns when they are durable.
    async fn publish(&self, minutes: &[MinuteSummary]) -> Result<(), LogError>;
}
