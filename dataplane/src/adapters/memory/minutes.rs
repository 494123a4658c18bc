//! Minutes without a topic: a line in the log for each.

use async_trait::async_trait;

use crate::ports::{LogError, MinuteSummary, MinuteTopic};

/// Tells the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoggedMinutes;

#[async_trait]
impl MinuteTopic for LoggedMinutes {
    async fn tell(&self, minutes: &[MinuteSummary]) -> Result<(), LogError> {
        for MinuteSummary { minute, count, unique } in minutes {
            tracing::info!(minute = minute.0, count, unique, "a minute is over");
        }
        Ok(())
    }
}
