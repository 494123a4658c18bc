//! `--check`: whether the count grew by the number of acknowledged events.

use std::time::{Duration, Instant};

use indicatif::HumanCount;
use ping_proto::PingCountRequest;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{client::Server, failure::Failure, output::grouped};

/// Time between two queries.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait until the count has caught up with the database.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(120);

/// What became of the events. An event is lost only if the database lacks it: the count follows the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckOutcome {
    /// Every acknowledged event is counted once, and nothing else.
    Exact,
    /// The database has every acknowledged event, and the count does not include all of them yet.
    Late,
    /// The database lacks acknowledged events.
    Lost,
    /// More events were counted than sent: some of them twice, or another client sends as well.
    Excess,
}

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
    /// Waits until the count has grown from `before` by what was acknowledged, for two minutes at most. Ctrl-C ends the wait.
    pub(super) async fn wait(server: &Server, before: i64, acknowledged: u64, unknown: u64) -> Result<Self, Failure> {
        let started = Instant::now();
        loop {
            let grew = server.ping_count(&PingCountRequest::default()).await?.ping_count - before;
            let stored = database_count(server).await? - before;
            let check = Self { acknowledged, unknown, grew, stored, waited: started.elapsed() };
            if check.outcome() != CheckOutcome::Late || check.waited > CATCH_UP_TIMEOUT {
                return Ok(check);
            }
            tokio::select! {
                () = sleep(POLL_INTERVAL) => {}
                Ok(()) = tokio::signal::ctrl_c() => return Ok(check),
            }
        }
    }

    fn outcome(&self) -> CheckOutcome {
        let [least, most] = [self.acknowledged, self.acknowledged.saturating_add(self.unknown)]
            .map(|events| i64::try_from(events).unwrap_or(i64::MAX));
        match self.stored {
            stored if stored < least => CheckOutcome::Lost,
            stored if stored > most || self.grew > stored => CheckOutcome::Excess,
            stored if self.grew < stored => CheckOutcome::Late,
            _ => CheckOutcome::Exact,
        }
    }

    /// Whether every acknowledged event is counted once, and nothing else.
    pub(super) fn holds(&self) -> bool {
        self.outcome() == CheckOutcome::Exact
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "holds": self.holds(),
            "verdict": self.outcome(),
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
        let stored = grouped(self.stored);
        let expected = format!("{acknowledged} acknowledged{unknown}");
        match self.outcome() {
            CheckOutcome::Exact if self.unknown == 0 => {
                format!("the count grew by exactly {acknowledged}, as acknowledged, within {waited:.0?}")
            }
            CheckOutcome::Exact => format!("the count grew by {grew}: {expected}, within {waited:.0?}"),
            CheckOutcome::Late => format!(
                "LATE: nothing is lost, the database has {stored} more events; but after {waited:.0?} the count has only \
                 {grew}. See whether the processors run, then `pingctl verify`"
            ),
            CheckOutcome::Lost => {
                format!("FAILED, lost: the database has only {stored} more events, expected {expected}")
            }
            CheckOutcome::Excess => format!(
                "FAILED: the count grew by {grew} (in the database by {stored}), expected {expected}: events were counted \
                 twice, or another client sends as well"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(grew: i64, stored: i64, acknowledged: u64, unknown: u64) -> Check {
        Check { acknowledged, unknown, grew, stored, waited: Duration::ZERO }
    }

    fn outcome(grew: i64, stored: i64, acknowledged: u64, unknown: u64) -> CheckOutcome {
        check(grew, stored, acknowledged, unknown).outcome()
    }

    #[test]
    fn what_is_acknowledged_is_counted_once() {
        assert_eq!([outcome(10, 10, 10, 0), outcome(0, 0, 0, 0)], [CheckOutcome::Exact; 2]);
        assert_eq!([outcome(11, 11, 10, 0), outcome(11, 10, 10, 0)], [CheckOutcome::Excess; 2]);
    }

    #[test]
    fn what_is_of_unknown_outcome_may_be_counted() {
        assert_eq!([outcome(10, 10, 10, 5), outcome(15, 15, 10, 5)], [CheckOutcome::Exact; 2]);
        assert_eq!([outcome(16, 16, 10, 5), outcome(9, 9, 10, 5)], [CheckOutcome::Excess, CheckOutcome::Lost]);
    }

    #[test]
    fn what_is_late_is_not_lost() {
        assert_eq!([outcome(9, 10, 10, 0), outcome(-3, 12, 10, 5)], [CheckOutcome::Late; 2]);
        assert_eq!([outcome(9, 9, 10, 0), outcome(8, 9, 10, 0), outcome(-1, -1, 0, 0)], [CheckOutcome::Lost; 3]);
        let late = check(9, 10, 10, 0);
        assert!(late.text().starts_with("LATE: nothing is lost") && !late.holds(), "{}", late.text());
        assert!(check(9, 9, 10, 0).text().starts_with("FAILED, lost"));
    }
}
