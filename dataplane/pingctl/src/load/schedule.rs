//! When to send. The schedule of a fixed rate does not wait for the server: that is what keeps its percentiles honest.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::args::Plan;

/// Sends that are due within the same tick are due together: timers are not finer than that.
const TICK_NANOS: f64 = 1e6;
/// How long after the end a send that was due before may still begin.
const GRACE: Duration = Duration::from_millis(100);
/// The pacer looks this often whether it is to stop.
const NAP: Duration = Duration::from_millis(100);
/// More than can wait for a send to be due.
const EVERYBODY: usize = 1 << 28;

/// When to send.
pub(super) struct Schedule {
    start: Instant,
    end: Instant,
    pace: Option<Pace>,
    stopped: AtomicBool,
}

/// A fixed rate.
struct Pace {
    /// Between two sends.
    nanos: f64,
    sends: u64,
    taken: AtomicU64,
    due: Semaphore,
}

impl Pace {
    fn new(sends_per_second: f64, duration: Duration) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates and durations are positive")]
        let sends = ((sends_per_second * duration.as_secs_f64()).round() as u64).max(1);
        Self { nanos: 1e9 / sends_per_second, sends, taken: AtomicU64::new(0), due: Semaphore::new(0) }
    }

    /// When the `turn`th send is due, after the start.
    fn offset(&self, turn: u64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^52 sends")]
        let exact = turn as f64 * self.nanos;
        let nanos = if self.nanos < TICK_NANOS { (exact / TICK_NANOS).ceil() * TICK_NANOS } else { exact };
        Duration::from_secs_f64(nanos / 1e9)
    }
}

impl Schedule {
    /// A schedule that starts now.
    pub(super) fn start(plan: &Plan) -> Self {
        let pace = plan.rate.0.map(|rate| Pace::new(rate / f64::from(plan.batch), plan.duration));
        let start = Instant::now();
        Self { start, end: start + plan.duration, pace, stopped: AtomicBool::new(false) }
    }

    /// Waits until the next send is due and says when that was; none: there is nothing more to send. Nothing is lost when the
    /// wait is given up.
    pub(super) async fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let Some(pace) = &self.pace else { return (now < self.end && !self.is_stopped()).then_some(now) };
        pace.due.acquire().await.ok()?.forget();
        let turn = pace.taken.fetch_add(1, Ordering::Relaxed);
        let late = Instant::now() > self.end + GRACE;
        (turn < pace.sends && !late && !self.is_stopped()).then(|| self.due(pace, turn))
    }

    /// Releases each send when it is due, until all are or the run is over; on a thread of its own, because a runtime that is
    /// busy sending is a bad clock.
    pub(super) fn pace(&self) {
        let Some(pace) = &self.pace else { return };
        let mut released = 0;
        while self.nap_until(self.due(pace, released)) {
            if released == pace.sends {
                break;
            }
            let now = Instant::now();
            let before = released;
            while released < pace.sends && self.due(pace, released) <= now {
                released += 1;
            }
            pace.due.add_permits(usize::try_from(released - before).unwrap_or(Semaphore::MAX_PERMITS));
        }
        // Whoever waits now finds that there is nothing left to take.
        pace.due.add_permits(EVERYBODY);
    }

    /// When the `turn`th send is due; the end is the last of all.
    fn due(&self, pace: &Pace, turn: u64) -> Instant {
        if turn < pace.sends { self.start + pace.offset(turn) } else { self.end }
    }

    /// Sleeps until `due`; false when everything was stopped before.
    fn nap_until(&self, due: Instant) -> bool {
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() || self.is_stopped() {
                return !self.is_stopped();
            }
            thread::sleep(wait.min(NAP));
        }
    }

    /// Nothing more is to be sent.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// When it started.
    pub(super) fn started(&self) -> Instant {
        self.start
    }

    /// When the last send is due.
    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// Sends in all, when the rate is fixed.
    pub(super) fn sends(&self) -> Option<u64> {
        self.pace.as_ref().map(|pace| pace.sends)
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
        let due: Vec<_> = (0..6).map(|turn| fast.offset(turn).as_millis()).collect();
        assert_eq!((fast.sends, due), (4000, vec![0, 1, 1, 1, 1, 2]));
    }
}
