//! When to send. At a fixed rate, the schedule does not wait for the server, so that a slow server shows in the percentiles
//! (no coordinated omission).

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::args::LoadConfig;

/// Resolution of timers, in nanoseconds. Sends that are due within the same tick are due together.
const TICK_NANOS: f64 = 1e6;
/// How long after the end of the schedule an overdue send may still start.
const MAX_START_DELAY: Duration = Duration::from_millis(100);
/// Longest sleep of the pacer, so that it notices `stop` in time.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// When to send. A send is one call or one batch.
pub(super) struct Schedule {
    start: Instant,
    end: Instant,
    /// `None`: as fast as possible.
    pace: Option<Pace>,
    stopped: AtomicBool,
}

/// A fixed rate.
struct Pace {
    /// Nanoseconds between two sends.
    interval_nanos: f64,
    sends: usize,
    taken: AtomicUsize,
    /// A permit for each send that is due and not taken yet. Closed when no more may start.
    due: Semaphore,
}

impl Pace {
    fn new(sends_per_second: f64, duration: Duration) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates and durations are positive")]
        let sends = ((sends_per_second * duration.as_secs_f64()).round() as usize).max(1);
        Self { interval_nanos: 1e9 / sends_per_second, sends, taken: AtomicUsize::new(0), due: Semaphore::new(0) }
    }

    /// When send number `index` is due, after the start.
    fn offset(&self, index: usize) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^52 sends")]
        let exact = index as f64 * self.interval_nanos;
        let nanos = if self.interval_nanos < TICK_NANOS { (exact / TICK_NANOS).ceil() * TICK_NANOS } else { exact };
        Duration::from_secs_f64(nanos / 1e9)
    }
}

impl Schedule {
    /// A schedule that starts now.
    pub(super) fn start(config: &LoadConfig) -> Self {
        let pace = config.rate.0.map(|rate| Pace::new(rate / f64::from(config.batch), config.duration));
        let start = Instant::now();
        Self { start, end: start + config.duration, pace, stopped: AtomicBool::new(false) }
    }

    /// Waits until the next send is due, and returns when that was; `None` at the end. Cancel safe.
    pub(super) async fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let Some(pace) = &self.pace else { return (now < self.end && !self.is_stopped()).then_some(now) };
        pace.due.acquire().await.ok()?.forget();
        let index = pace.taken.fetch_add(1, Ordering::Relaxed);
        (!self.is_stopped()).then(|| self.due(pace, index))
    }

    /// Releases each send when it is due, until the end. Runs on a thread of its own, because a runtime that is busy sending
    /// does not keep time.
    pub(super) fn pace(&self) {
        let Some(pace) = &self.pace else { return };
        let mut released = 0;
        while self.sleep_until(self.due(pace, released)) && released < pace.sends {
            let now = Instant::now();
            let first = released;
            while released < pace.sends && self.due(pace, released) <= now {
                released += 1;
            }
            pace.due.add_permits(released - first);
        }
        if pace.taken.load(Ordering::Relaxed) < pace.sends {
            self.sleep_until(self.end + MAX_START_DELAY);
        }
        pace.due.close();
    }

    /// When send number `index` is due. After the last, the end of the schedule.
    fn due(&self, pace: &Pace, index: usize) -> Instant {
        if index < pace.sends { self.start + pace.offset(index) } else { self.end }
    }

    /// Sleeps until `due`; `false` if the schedule was stopped before.
    fn sleep_until(&self, due: Instant) -> bool {
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() || self.is_stopped() {
                return !self.is_stopped();
            }
            thread::sleep(wait.min(STOP_POLL_INTERVAL));
        }
    }

    /// Ends the schedule early.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn started(&self) -> Instant {
        self.start
    }

    /// The end of the schedule.
    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// Number of sends at a fixed rate.
    pub(super) fn sends(&self) -> Option<u64> {
        self.pace.as_ref().map(|pace| pace.sends as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_schedule_is_exact_and_a_fast_one_is_by_the_millisecond() {
        let slow = Pace::new(100.0, Duration::from_secs(2));
        assert_eq!((slow.sends, slow.offset(0), slow.offset(3)), (200, Duration::ZERO, Duration::from_millis(30)));
        let fast = Pace::new(4000.0, Duration::from_secs(1));
        let due: Vec<_> = (0..6).map(|index| fast.offset(index).as_millis()).collect();
        assert_eq!((fast.sends, due), (4000, vec![0, 1, 1, 1, 1, 2]));
    }
}
