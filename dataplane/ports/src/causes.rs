//! Errors of adapters, and how they are shown.

use std::{
    error::Error,
    time::{Duration, Instant},
};

/// The same reason is reported again after this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Reasons that are reported within that time at most.
const MAX_REASONS: usize = 8;

/// The cause of an adapter's error.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The disk of the store is full. An adapter puts it into the chain of its error.
#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
pub struct DiskFull(#[source] pub Cause);

impl DiskFull {
    /// Whether it is `error`, or one of its causes.
    #[must_use]
    pub fn causes(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// An error and its causes on one line: `cannot connect: refused: port 5432`.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What was reported of something that is retried many times per second while it fails: each reason at once, and the same one again after
/// ten seconds.
#[derive(Debug, Default)]
pub struct RepeatedFailures {
    reported: Vec<(String, Instant)>,
}

impl RepeatedFailures {
    /// Whether to report a failure for `reason` at the time `now`.
    pub fn should_report(&mut self, reason: &str, now: Instant) -> bool {
        self.reported.retain(|(_, at)| now.saturating_duration_since(*at) < REPORT_INTERVAL);
        let is_reported = self.reported.iter().any(|(reported, _)| reported == reason);
        if is_reported || self.reported.len() == MAX_REASONS {
            return false;
        }
        self.reported.push((reason.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_reported_at_once_and_again_every_ten_seconds() {
        let (mut failures, start) = (RepeatedFailures::default(), Instant::now());
        let mut reports = Vec::new();
        for attempt in 0..500_u64 {
            let after = Duration::from_millis(50 * attempt);
            let reason = if (100..300).contains(&attempt) { "timeout" } else { "refused" };
            if failures.should_report(reason, start + after) {
                reports.push((after.as_secs(), reason));
            }
        }
        assert_eq!(reports, [(0, "refused"), (5, "timeout"), (15, "refused")]);
    }

    #[test]
    fn reasons_that_change_all_the_time_are_limited_too() {
        let (mut failures, start) = (RepeatedFailures::default(), Instant::now());
        let attempts = (0..400_u32)
            .filter(|attempt| failures.should_report(&attempt.to_string(), start + REPORT_INTERVAL / 200 * *attempt));
        assert_eq!(attempts.count(), 2 * MAX_REASONS);
    }
}
