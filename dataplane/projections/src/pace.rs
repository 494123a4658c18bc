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
    /// Steps at least `interval` apart, of at most `max_size` items. The first one is due `now` and has one item, because it is not known how
    /// long an item takes.
    pub(super) fn new(interval: Duration, max_size: usize, now: Instant) -> Self {
        Self { interval, max_size, size: 1, next: now }
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
        self.rest(took, end);
        if took < SHORT_STEP {
            self.size = (self.size * 2).min(self.max_size);
        } else if took > LONG_STEP {
            self.shrink();
        }
    }

    /// A step failed, after it took from `start` to `end`: possibly because it was too large.
    pub(super) fn failed(&mut self, start: Instant, end: Instant) {
        self.rest(end - start, end);
        self.shrink();
    }

    fn rest(&mut self, took: Duration, end: Instant) {
        self.next = end + self.interval.max(took * REST);
    }

    fn shrink(&mut self) {
        self.size = (self.size / 2).max(1);
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

    /// A pace that has come to steps of `size` items, and its next step.
    fn grown_to(size: usize) -> (Pace, Instant) {
        let (mut pace, mut now) = (Pace::new(INTERVAL, size, Instant::now()), Instant::now());
        while pace.size() < size {
            pace.stepped(now, now);
            now += INTERVAL;
        }
        (pace, now)
    }

    #[test]
    fn long_steps_are_rare_and_become_smaller() {
        let (mut pace, start) = grown_to(64);
        assert!(pace.is_due(start));
        let end = start + Duration::from_millis(200);
        pace.stepped(start, end);
        assert!(!pace.is_due(end + Duration::from_millis(3_999)) && pace.is_due(end + Duration::from_secs(4)));
        assert_eq!(pace.size(), 32);
    }

    #[test]
    fn failed_steps_are_as_rare_as_successful_ones_and_become_smaller() {
        let (mut pace, start) = grown_to(64);
        let end = start + Duration::from_secs(60);
        pace.failed(start, end);
        assert!(!pace.is_due(end + Duration::from_secs(1_199)) && pace.is_due(end + Duration::from_secs(1_200)));
        assert_eq!(pace.size(), 32);
        pace.failed(end, end);
        assert!(!pace.is_due(end) && pace.is_due(end + INTERVAL));
        assert_eq!(pace.size(), 16, "also those that fail at once");
    }

    #[test]
    fn steps_begin_with_one_item_and_become_larger_up_to_the_maximum() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, 3, start);
        let mut sizes = Vec::new();
        for _ in 0..4 {
            sizes.push(pace.size());
            pace.stepped(start, start);
        }
        assert_eq!(sizes, [1, 2, 3, 3]);
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
