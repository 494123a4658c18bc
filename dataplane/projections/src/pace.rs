//! How often, and how much at once, a background task works: its cost stays a small part of the time, however much there is to do. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A task rests for this many times as long as its last step took, so it uses at most a twentieth of a core and of a connection.
const REST: u32 = 20;
/// A step that took less is followed by a larger one.
const SHORT_STEP: Duration = Duration::from_millis(20);
/// A step that took more is followed by a smaller one.
const LONG_STEP: Duration = Duration::from_millis(100);

/// The pace of a task that works in steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    interval: Duration,
    max_size: usize,
    size: usize,
    next: Instant,
}

impl Pace {
    /// Steps at least `interval` apart, of at most `max_size` items; the first one is due `now`.
    pub(super) fn new(interval: Duration, max_size: usize, now: Instant) -> Self {
        Self { interval, max_size, size: max_size.min(64), next: now }
    }

    /// Whether a step is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Items of the next step.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// A step took from `start` to `end`.
    pub(super) fn stepped(&mut self, start: Instant, end: Instant) {
        let took = end - start;
        self.next = end + self.interval.max(took * REST);
        if took < SHORT_STEP {
            self.size = (self.size * 2).min(self.max_size);
        } else if took > LONG_STEP {
            self.size = (self.size / 2).max(1);
        }
    }

    /// The next step is not due before `time`.
    pub(super) fn rest_until(&mut self, time: Instant) {
        self.next = self.next.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

    #[test]
    fn long_steps_are_rare_and_become_smaller() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, 1_000, start);
        assert!(pace.is_due(start) && pace.size() == 64);
        let end = start + Duration::from_millis(200);
        pace.stepped(start, end);
        assert!(!pace.is_due(end + Duration::from_millis(3_999)) && pace.is_due(end + Duration::from_secs(4)));
        assert_eq!(pace.size(), 32);
    }

    #[test]
    fn short_steps_become_larger_up_to_the_maximum() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, 100, start);
        pace.stepped(start, start);
        assert_eq!(pace.size(), 100);
        assert!(!pace.is_due(start) && pace.is_due(start + INTERVAL));
        pace.rest_until(start + INTERVAL * 2);
        assert!(!pace.is_due(start + INTERVAL));
    }

    #[test]
    fn a_step_has_at_least_one_item() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, 1, start);
        pace.stepped(start, start + LONG_STEP * 2);
        assert_eq!(pace.size(), 1);
    }
}
