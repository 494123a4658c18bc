//! Closed minutes in the debug log, where there is no topic.

use async_trait::async_trait;

use ping_ports::{LogError, MinuteSummary, MinuteTopic};

/// Logs each closed minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoggedMinutes;

#[async_trait]
impl MinuteTopic for LoggedMinutes {
    async fn publish(&self, minutes: &[MinuteSummary]) -> Result<(), LogError> {
        for MinuteSummary { minute, count, unique } in minutes {
            tracing::debug!(minute = minute.0, count, unique, "minute closed");
        }
        Ok(())
    }
}
