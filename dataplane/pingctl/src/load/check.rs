//! `--check`: whether the count grew by the number of acknowledged events.

use std::time::{Duration, Instant};

use indicatif::HumanCount;
use ping_proto::PingCountRequest;
use serde_json::{Value, json};

use crate::{client::Server, failure::Failure, output::grouped};

/// Time between two queries.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The counts after a load, compared with what was acknowledged.
pub(super) struct Check {
    /// Acknowledged events.
    acknowledged: u64,
    /// Events that may or may not have been recorded.
    unknown: u64,
    /// Growth of the count.
    grew: i64,
    /// Growth of the count in the database.
    stored: i64,
    waited: Duration,
}

/// The count in the database, which includes every acknowledged event.
pub(super) async fn database_count(server: &Server) -> Result<i64, Failure> {
    let request = PingCountRequest { strong: true, ..PingCountRequest::default() };
    server.ping_count(&request).await.map(|answer| answer.ping_count)
}

impl Check {
    /// Waits, at most for `timeout`, until the count has grown from `before` by what was acknowledged.
    pub(super) async fn wait(
        server: &Server,
        before: i64,
        acknowledged: u64,
        unknown: u64,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let started = Instant::now();
        loop {
            let grew = server.ping_count(&PingCountRequest::default()).await?.ping_count - before;
            let stored = database_count(server).await? - before;
            let check = Self { acknowledged, unknown, grew, stored, waited: started.elapsed() };
            if check.holds() || check.waited > timeout {
                return Ok(check);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether every acknowledged event is counted once, and nothing else.
    pub(super) fn holds(&self) -> bool {
        let allowed = self.acknowledged..=self.acknowledged + self.unknown;
        self.grew == self.stored && u64::try_from(self.grew).is_ok_and(|grew| allowed.contains(&grew))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "holds": self.holds(),
            "grew": self.grew,
            "stored": self.stored,
            "acknowledged": self.acknowledged,
            "unknown": self.unknown,
            "waited_ms": self.waited.as_millis(),
        })
    }

    pub(super) fn text(&self) -> String {
        let Self { unknown, waited, .. } = self;
        let (grew, acknowledged) = (grouped(self.grew), HumanCount(self.acknowledged));
        let unknown = match unknown {
            0 => String::new(),
            unknown => format!(" and up to {} with unknown outcome", HumanCount(*unknown)),
        };
        if !self.holds() {
            let stored = grouped(self.stored);
            return format!(
                "FAILED: the count grew by {grew} (in the database by {stored}), expected {acknowledged} \
                 acknowledged{unknown}; waited {waited:.0?}"
            );
        }
        if self.unknown == 0 {
            return format!("the count grew by exactly {acknowledged}, as acknowledged, within {waited:.0?}");
        }
        format!("the count grew by {grew}: {acknowledged} acknowledged{unknown}, within {waited:.0?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(grew: i64, stored: i64, acknowledged: u64, unknown: u64) -> bool {
        Check { acknowledged, unknown, grew, stored, waited: Duration::ZERO }.holds()
    }

    #[test]
    fn what_is_acknowledged_is_counted_once() {
        assert!(holds(10, 10, 10, 0) && holds(0, 0, 0, 0));
        assert!(!holds(9, 10, 10, 0) && !holds(9, 9, 10, 0) && !holds(11, 11, 10, 0) && !holds(-1, -1, 0, 0));
    }

    #[test]
    fn what_is_of_unknown_outcome_may_be_counted() {
        assert!(holds(10, 10, 10, 5) && holds(15, 15, 10, 5));
        assert!(!holds(16, 16, 10, 5) && !holds(9, 9, 10, 5));
    }
}
