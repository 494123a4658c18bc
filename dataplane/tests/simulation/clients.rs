//! Callers: they send events, retry with the same ids when they get no answer, and sometimes give up or repeat themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use ping_core::{Event, Millis, Revocation};
use ping_ingest::{Ingest, Refusal};
use ping_ports::Clock;
use tokio::time::sleep;
use uuid::Uuid;

use crate::rng::FaultRng;

/// What the callers sent, and what was acknowledged to them.
#[derive(Default)]
pub struct Sent {
    /// When each id was first acknowledged.
    pub acknowledged: BTreeMap<Uuid, Millis>,
    /// Every id ever sent.
    pub ids: BTreeSet<Uuid>,
    /// Submissions that were not acknowledged.
    pub refused: u64,
}

/// How many sources send events.
pub const SOURCES: u64 = 5;

/// The servers a caller can reach.
pub type Servers = Arc<Mutex<Vec<Ingest>>>;

/// One caller: sends `events` batches of one to three events each.
pub async fn run(rng: FaultRng, servers: Servers, clock: Arc<dyn Clock>, sent: Arc<Mutex<Sent>>, events: u64) {
    for _ in 0..events {
        sleep(rng.millis(30)).await;
        let count = 1 + rng.below(3);
        let batch: Vec<_> = (0..count).map(|_| event(&rng, &*clock)).collect();
        sent.lock().ids.extend(batch.iter().map(|event| event.id));
        let attempts = 1 + rng.below(30);
        for _ in 0..attempts {
            if send(&rng, &servers, &*clock, &sent, &batch).await && !rng.chance(5) {
                break;
            }
            sleep(rng.millis(200)).await;
        }
    }
}

fn event(rng: &FaultRng, clock: &dyn Clock) -> Event {
    let ago = if rng.chance(80) { 0 } else { i64::try_from(rng.below(300_000)).unwrap() };
    let source = if rng.chance(50) { String::new() } else { format!("source-{}", rng.below(SOURCES)) };
    Event {
        id: Uuid::from_u128(rng.id()),
        timestamp_ms: clock.now() - ago,
        timestamp_assumed: false,
        source: source.into(),
        kind: kind(rng),
    }
}

/// A kind that a status depends on: of an event, or of a revocation of the first of them.
fn kind(rng: &FaultRng) -> Box<str> {
    match rng.below(10) {
        0..4 => "failed".into(),
        4..7 => "succeeded".into(),
        7 => Revocation { kind: "failed".into(), events: i64::try_from(rng.below(6)).unwrap() }.to_kind().into(),
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
    // A caller may hang up before the answer.
    let answer = tokio::select! {
        biased;
        answer = server.submit(batch.to_vec()) => answer,
        () = sleep(rng.millis(2_000)), if rng.chance(20) => return false,
    };
    match answer {
        Ok(receipt) => {
            assert!(receipt.conflicts.is_empty(), "an id conflicts with itself: {receipt:?}");
            let now = clock.now();
            let mut sent = sent.lock();
            for event in batch {
                sent.acknowledged.entry(event.id).or_insert(now);
            }
            true
        }
        Err(Refusal::Full(_) | Refusal::Unavailable(_) | Refusal::OutcomeUnknown(_) | Refusal::ShuttingDown) => {
            sent.lock().refused += 1;
            false
        }
    }
}
