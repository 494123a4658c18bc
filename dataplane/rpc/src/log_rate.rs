//! How often callers can make the server write to its log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);

/// Limits the log lines of one kind. Metrics count what is not logged.
pub(super) struct LogRate {
    limit: u32,
    /// When the current second began, and the lines since then.
    current: Mutex<Option<(Instant, u32)>>,
}

impl LogRate {
    pub(super) fn per_second(limit: u32) -> Self {
        Self { limit, current: Mutex::default() }
    }

    /// Whether one more line may be written now.
    pub(super) fn may_log(&self) -> bool {
        let mut current = self.current.lock();
        let (began, lines) = current.filter(|(began, _)| began.elapsed() < SECOND).unwrap_or((Instant::now(), 0));
        *current = Some((began, lines.saturating_add(1)));
        lines < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_not_logged() {
        let rate = LogRate::per_second(3);
        let lines = (0..1_000).filter(|_| rate.may_log()).count();
        // The thousand calls may take more than a second.
        assert!((3..30).contains(&lines), "{lines}");
    }

    #[test]
    fn the_next_second_has_its_own_lines() {
        let rate = LogRate::per_second(1);
        assert!(rate.may_log());
        assert!(!rate.may_log());
        std::thread::sleep(SECOND);
        assert!(rate.may_log());
    }
}
