//! Minutes that are over, for whoever listens.

use async_trait::async_trait;

use super::LogError;
use ping_core::Minute;

/// What happened in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MinuteSummary {
    /// The minute since the Unix epoch.
    #[serde(serialize_with = "number")]
    pub minute: Minute,
    /// Events that happened in it.
    pub count: i64,
    /// Sources that they came from.
    pub unique: i64,
}

fn number<S: serde::Serializer>(minute: &Minute, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(minute.0)
}

/// Tells of minutes. A minute that is told again replaces what was told before.
#[async_trait]
pub trait MinuteTopic: Send + Sync {
    /// Tells of these; returns when it is durable.
    async fn publish(&self, minutes: &[MinuteSummary]) -> Result<(), LogError>;
}
