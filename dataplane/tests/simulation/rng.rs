//! Seeded randomness, and the faults that it injects into the calls of a process.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use ping_core::{Day, Millis};
use ping_ports::Clock;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::{Builder, Uuid};

use crate::bugs::Bug;

/// Virtual time as a clock. Starts at a fixed time.
pub struct VirtualClock(pub Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Millis {
        1_728_926_331_000 + Millis::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// A clock by which a day passes in each second of virtual time. Ids are created by it; events happen, and views are kept, by the other one.
pub struct FastClock(pub Instant);

/// The first day of the fast clock: half a year before the other one, so that nothing is too old for the views.
const FIRST_FAST_DAY: Day = Day(19_800);

impl Clock for FastClock {
    fn now(&self) -> Millis {
        FIRST_FAST_DAY.start() + Millis::try_from(self.0.elapsed().as_millis()).unwrap() * 86_400
    }
}

/// The random number generator of one schedule. Clones share it.
#[derive(Clone)]
pub struct FaultRng {
    rng: Arc<Mutex<SmallRng>>,
    faults: Arc<AtomicBool>,
    restores: Arc<AtomicU64>,
    pub bug: Option<Bug>,
}

impl FaultRng {
    pub fn new(seed: u64, bug: Option<Bug>) -> Self {
        let rng = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)));
        Self { rng, faults: Arc::new(AtomicBool::new(true)), restores: Arc::default(), bug }
    }

    /// How often the store was restored. A statement does not survive that.
    pub fn restores(&self) -> u64 {
        self.restores.load(Ordering::Relaxed)
    }

    pub fn store_was_restored(&self) {
        self.restores.fetch_add(1, Ordering::Relaxed);
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.rng.lock().random_range(0..limit.max(1))
    }

    pub fn id(&self) -> u128 {
        self.rng.lock().random()
    }

    /// A version 7 UUID of the time `now`.
    pub fn dated_id(&self, now: Millis) -> Uuid {
        let tail: [u8; 10] = self.rng.lock().random();
        Builder::from_unix_timestamp_millis(now.unsigned_abs(), &tail).into_uuid()
    }

    /// True with a probability of `percent`.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True with a probability of `percent` until [`Self::end_of_faults`].
    pub fn fault(&self, percent: u64) -> bool {
        self.chance(percent) && self.faults.load(Ordering::Relaxed)
    }

    pub fn end_of_faults(&self) {
        self.faults.store(false, Ordering::Relaxed);
    }

    pub fn millis(&self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

/// What becomes of a call.
pub enum CallOutcome {
    /// It succeeds.
    Done,
    /// It never arrives.
    Lost,
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// It is reported as failed, and takes effect a little later.
    Late(Duration),
}

/// One process. Its calls are slow, lost or late; for a while it may not run at all.
#[derive(Clone)]
pub struct Host {
    pub rng: FaultRng,
    stalled: Arc<Mutex<Option<Instant>>>,
    cut_off: Arc<Mutex<Option<Instant>>>,
}

impl Host {
    pub fn new(rng: &FaultRng) -> Self {
        Self { rng: rng.clone(), stalled: Arc::default(), cut_off: Arc::default() }
    }

    /// For a while, the process does not reach the cache of statuses. Others do.
    pub fn cut_off(&self, time: Duration) {
        *self.cut_off.lock() = Some(Instant::now() + time);
    }

    /// Fails while the cache of statuses is out of reach.
    pub fn reach_cache<E>(&self, error: impl Fn() -> E) -> Result<(), E> {
        let cut_off = self.cut_off.lock().is_some_and(|until| Instant::now() < until);
        if cut_off { Err(error()) } else { Ok(()) }
    }

    /// Stops the process for a while. It then continues as if nothing had happened.
    pub fn stall(&self, time: Duration) {
        *self.stalled.lock() = Some(Instant::now() + time);
    }

    /// When it runs again, if it was ever stopped.
    pub fn stalled_until(&self) -> Option<Instant> {
        *self.stalled.lock()
    }

    /// An await point: other tasks may run first.
    pub async fn pause(&self) {
        match self.rng.below(10) {
            0..4 => {}
            4..8 => sleep(self.rng.millis(3)).await,
            _ => sleep(self.rng.millis(40)).await,
        }
        if let Some(until) = self.stalled_until() {
            sleep_until(until).await;
        }
    }

    /// Decides what becomes of the next call.
    pub fn call_outcome(&self) -> CallOutcome {
        if !self.rng.fault(8) {
            return CallOutcome::Done;
        }
        match self.rng.below(3) {
            0 => CallOutcome::Lost,
            1 => CallOutcome::AnswerLost,
            _ => CallOutcome::Late(self.rng.millis(400)),
        }
    }

    /// Makes a change that may be lost, get no answer, or take effect late.
    pub async fn change<T, E, F>(&self, error: impl Fn() -> E, change: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.pause().await;
        match self.call_outcome() {
            CallOutcome::Done => {
                let answer = change.await;
                self.pause().await;
                answer
            }
            CallOutcome::Lost => Err(error()),
            CallOutcome::AnswerLost => {
                let _ = change.await;
                Err(error())
            }
            CallOutcome::Late(time) => {
                tokio::spawn(async move {
                    sleep(time).await;
                    let _ = change.await;
                });
                Err(error())
            }
        }
    }

    /// Makes a call that changes nothing when it fails, or whose repetition does no harm.
    pub async fn call<T, E>(&self, error: impl Fn() -> E, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.pause().await;
        if self.rng.fault(4) {
            return Err(error());
        }
        let answer = call.await;
        self.pause().await;
        if self.rng.fault(2) { Err(error()) } else { answer }
    }
}
