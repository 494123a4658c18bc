//! Callers: they send events, retry with the same ids when they get no answer, and sometimes give up or repeat themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use ping_core::{Event, Millis, Revocation};
use ping_history::{History, Interval, Outcome};
use ping_ingest::{Ingest, Refusal};
use ping_ports::Clock;
use tokio::time::sleep;
use uuid::Uuid;

use crate::rng::FaultRng;

/// Under this name, the history knows whether a source reached any threshold. Without a revocation, that stays.
pub fn decided(source: &str) -> String {
    format!("{source}, decided")
}

/// What the callers sent, and what was acknowledged to them.
#[derive(Default)]
pub struct Sent {
    /// When each id was first acknowledged.
    pub acknowledged: BTreeMap<Uuid, Millis>,
    /// Every id ever sent.
    pub ids: BTreeSet<Uuid>,
    /// Submissions that were not acknowledged.
    pub refused: u64,
    /// Every call.
    pub history: History,
    /// When the store was last restored to an earlier time, or the log emptied. The answer to a call that began before says nothing.
    pub went_back: Millis,
}

impl Sent {
    /// Notes that every event may have been recorded: a call may still be running, and a lane may be committing an event that its caller
    /// has given up.
    pub fn all_are_possible(&mut self, now: Millis) {
        for id in &self.ids {
            self.history.record(*id, Interval { began: 0, ended: now * 1_000 }, Outcome::Unknown);
        }
    }

    /// The store was restored `now`, and has these of the events.
    pub fn go_back(&mut self, now: Millis, stored: &[Event]) {
        let at = Interval { began: 0, ended: now * 1_000 };
        self.went_back = now;
        self.acknowledged.clear();
        self.history = History::default();
        self.all_are_possible(now);
        for event in stored {
            self.acknowledged.insert(event.id, now);
            self.history.record(event.id, at, Outcome::Acknowledged);
            if event.kind.starts_with("~revoked:") {
                self.history.revocation(&event.source, at);
                self.history.revocation(&decided(&event.source), at);
            }
        }
    }
}

/// From `began`, in milliseconds, until now.
pub fn since(began: Millis, clock: &dyn Clock) -> Interval {
    Interval { began: began * 1_000, ended: clock.now() * 1_000 }
}

/// How many sources send events. Those with an even number are revoked at times.
pub const SOURCES: u64 = 5;
/// The source that has enough events to become positive.
const POSITIVE: u64 = 1;

/// The servers a caller can reach.
pub type Servers = Arc<Mutex<Vec<Ingest>>>;

/// The clocks of callers.
#[derive(Clone)]
pub struct Clocks {
    /// When events happen.
    pub events: Arc<dyn Clock>,
    /// When ids are created.
    pub ids: Arc<dyn Clock>,
}

/// One caller: sends `events` batches of one to three events each, and repeats some of them after a while.
pub async fn run(rng: FaultRng, servers: Servers, clocks: Clocks, sent: Arc<Mutex<Sent>>, events: u64) {
    let clock = Arc::clone(&clocks.events);
    let mut repeated = Vec::new();
    for _ in 0..events {
        sleep(rng.millis(30)).await;
        let count = 1 + rng.below(3);
        let batch: Vec<_> = (0..count).map(|_| event(&rng, &clocks)).collect();
        sent.lock().ids.extend(batch.iter().map(|event| event.id));
        let attempts = 1 + rng.below(30);
        for _ in 0..attempts {
            if send(&rng, &servers, &*clock, &sent, &batch).await && !rng.chance(5) {
                break;
            }
            sleep(rng.millis(200)).await;
        }
        if rng.chance(20) {
            repeated.push(batch);
        }
    }
    // Until their days are dropped.
    sleep(Duration::from_secs(5)).await;
    for batch in repeated {
        send(&rng, &servers, &*clock, &sent, &batch).await;
    }
}

fn event(rng: &FaultRng, clocks: &Clocks) -> Event {
    let ago = if rng.chance(80) { 0 } else { i64::try_from(rng.below(300_000)).unwrap() };
    let number = (!rng.chance(50)).then(|| if rng.chance(50) { POSITIVE } else { rng.below(SOURCES) });
    let source = number.map(|number| format!("source-{number}")).unwrap_or_default();
    // Half of the ids have no day.
    let id = if rng.chance(50) { rng.dated_id(clocks.ids.now()) } else { Uuid::from_u128(rng.id()) };
    Event {
        id,
        timestamp_ms: clocks.events.now() - ago,
        timestamp_assumed: false,
        source: source.into(),
        kind: kind(rng, number),
    }
}

/// A kind that a status depends on: of an event, or of a revocation of the first of them. [`POSITIVE`] does not fail, so that only its successes
/// hold its node.
fn kind(rng: &FaultRng, source: Option<u64>) -> Box<str> {
    match rng.below(10) {
        0..3 if source != Some(POSITIVE) => "failed".into(),
        0..8 => "succeeded".into(),
        8 if source.is_some_and(|number| number.is_multiple_of(2)) => {
            Revocation { kind: "failed".into(), events: i64::try_from(rng.below(6)).unwrap() }.to_kind().into()
        }
        _ => "".into(),
    }
}

/// True when the batch is acknowledged.
async fn send(rng: &FaultRng, servers: &Servers, clock: &dyn Clock, sent: &Mutex<Sent>, batch: &[Event]) -> bool {
    let server = {
        let servers = servers.lock();
        let pick = usize::try_from(rng.below(servers.len() as u64)).unwrap();
        servers.get(pick).cloned()
    };
    let Some(server) = server else { return false };
    // Each attempt is another connection, which may use another lane.
    let mut lanes = server.lane_handles();
    let server = lanes.swap_remove(usize::try_from(rng.below(lanes.len() as u64)).unwrap());
    let began = clock.now();
    // A caller may hang up before the answer.
    let answer = tokio::select! {
        biased;
        answer = server.submit(batch.to_vec(), None) => Some(answer),
        () = sleep(rng.millis(2_000)), if rng.chance(20) => None,
    };
    let outcome = match &answer {
        Some(Ok(receipt)) => {
            assert!(receipt.conflicts.is_empty(), "an id conflicts with itself: {receipt:?}");
            Outcome::Acknowledged
        }
        Some(Err(Refusal::Full(_) | Refusal::ShuttingDown | Refusal::Expired)) => Outcome::Rejected,
        Some(Err(Refusal::Unavailable(_) | Refusal::StoreFull(_) | Refusal::OutcomeUnknown(_))) | None => {
            Outcome::Unknown
        }
    };
    let at = since(began, clock);
    let mut sent = sent.lock();
    let outcome = if began <= sent.went_back { Outcome::Unknown } else { outcome };
    for event in batch {
        sent.history.record(event.id, at, outcome);
        if outcome == Outcome::Acknowledged {
            sent.acknowledged.entry(event.id).or_insert(clock.now());
        }
        if event.kind.starts_with("~revoked:") {
            sent.history.revocation(&event.source, at);
            sent.history.revocation(&decided(&event.source), at);
        }
    }
    sent.refused += u64::from(matches!(answer, Some(Err(_))));
    outcome == Outcome::Acknowledged
}
