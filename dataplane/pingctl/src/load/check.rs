//! Whether the count grew by what was acknowledged.

use std::time::{Duration, Instant};

use ping_proto::PingCountRequest;
use serde_json::{Value, json};

use crate::count;
use crate::{client::Server, failure::Failure, output::grouped};

/// How often to look.
const POLL: Duration = Duration::from_millis(20);

/// What the counts say.
pub(super) struct Check {
    /// Pings that were acknowledged.
    acknowledged: u64,
    /// Pings that may be recorded or not.
    unknown: u64,
    /// By how many the count grew.
    grew: i64,
    /// By how many the store's own count grew.
    stored: i64,
    waited: Duration,
}

/// The store's count; everything that is acknowledged is in it.
pub(super) async fn strong(server: &Server) -> Result<i64, Failure> {
    let request = PingCountRequest { strong: true, ..PingCountRequest::default() };
    count::ask(server, &request).await.map(|answer| answer.ping_count)
}

impl Check {
    /// Waits until the count has grown by what was acknowledged since it was `before`, at most for `timeout`.
    pub(super) async fn wait(
        server: &Server,
        before: i64,
        (acknowledged, unknown): (u64, u64),
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let begun = Instant::now();
        loop {
            let grew = count::ask(server, &PingCountRequest::default()).await?.ping_count - before;
            let stored = strong(server).await? - before;
            let check = Self { acknowledged, unknown, grew, stored, waited: begun.elapsed() };
            if check.holds() || check.waited > timeout {
                return Ok(check);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Everything acknowledged is in the count, and nothing twice.
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
        let waited = self.waited.as_millis();
        let (grew, acknowledged) = (grouped(self.grew), grouped(self.acknowledged));
        let unknown = match self.unknown {
            0 => String::new(),
            unknown => format!(" and up to {} of unknown outcome", grouped(unknown)),
        };
        if !self.holds() {
            let stored = grouped(self.stored);
            return format!(
                "NOT as acknowledged: the count grew by {grew} (the store's by {stored}), not by {acknowledged}{unknown}; \
                 waited {waited} ms"
            );
        }
        if self.unknown == 0 {
            return format!("the count grew by exactly the {acknowledged} acknowledged, {waited} ms later");
        }
        format!("the count grew by {grew}: the {acknowledged} acknowledged{unknown}, {waited} ms later")
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
