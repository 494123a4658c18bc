//! The write path: callers → lanes → store → publisher → log. A lane acknowledges what the store has committed. Whatever is not
//! published yet is in the outbox: the lane's publisher publishes it or, once the lane is gone, a relay does.
//!
//! Here belongs what happens between a caller's events and their records in the log. Counting them is the job of
//! `ping-projections`.

mod accepted_ids;
mod assemble;
mod lane;
mod metrics;
mod publisher;
mod relay;
mod store_full;

pub use accepted_ids::AcceptedIds;
pub use metrics::IngestMetrics;

use std::{
    sync::{Arc, Weak, atomic::AtomicU32},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot},
    task::JoinSet,
};

use ping_core::{Event, Token};
use ping_ports::{EventStore, LogProducer, Outbox, TraceContext, Traces};
use store_full::StoreFull;
use uuid::Uuid;

/// An id for an event without one. Ids ascend, because they then insert almost three times as fast as random ones
/// (`docs/adr/0010`).
#[must_use]
pub fn new_event_id() -> Uuid {
    Uuid::now_v7()
}

/// How the write path behaves. The defaults are what the benchmarks run with.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// Concurrent write lanes. 1 is enough on fast disks. See [`Ingest::lane_handles`].
    pub lanes: usize,
    /// Maximum number of events that wait or are being committed, over all lanes. Beyond it, submissions are rejected.
    pub queue_events: usize,
    /// Events per commit, approximately: a submission is never split.
    pub batch_events: usize,
    /// A writer that does not renew its lease for this long is closed, and its outbox is relayed.
    pub lease: Duration,
    /// How long a submission is retried while the store is unavailable.
    pub timeout: Duration,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            lanes: 1,
            queue_events: 65_536,
            batch_events: 2_000,
            lease: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
        }
    }
}

/// The acknowledgement: these events are durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// How many events are known to be new: none of them if the answer to the commit was lost. The others had been acknowledged before.
    pub accepted: usize,
    /// Identifies the last new event, so that a reader can wait until it is counted.
    pub token: Option<Token>,
    /// Indices of events that were rejected, because their id belongs to an event with other content.
    pub conflicts: Vec<usize>,
}

/// Why a submission is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue is full.
    #[error("the ingest queue is full; retry in {} ms with the same event_id", .0.as_millis())]
    Full(Duration),
    /// The store is unavailable; nothing was recorded.
    #[error("the store is unavailable and nothing was recorded; retry: {0}")]
    Unavailable(String),
    /// An id of the commit, of this caller or another one, is of a day that was just dropped; nothing was recorded.
    #[error(
        "an event that was to be recorded at the same time has an id from before the events that are kept, and nothing was recorded; retry"
    )]
    Expired,
    /// The store has no disk space left; nothing was recorded.
    #[error("the store has run out of disk space and nothing was recorded; retry when it has space again: {0}")]
    StoreFull(String),
    /// The answer to a commit was lost: the events may or may not be recorded.
    #[error("the events may or may not have been recorded; retry with the same event_id: {0}")]
    OutcomeUnknown(String),
    /// The server is shutting down; nothing was recorded.
    #[error("the server is shutting down and nothing was recorded; retry to reach another replica")]
    ShuttingDown,
}

/// Events of one caller, waiting for a lane.
struct Submission {
    events: Vec<Event>,
    trace: Option<TraceContext>,
    reply: oneshot::Sender<Result<Receipt, Refusal>>,
    _room: OwnedSemaphorePermit,
}

/// A handle to one lane of the write path. Cheap to clone; the lanes drain and end when the last clone is dropped.
///
/// Events submitted through the same handle are committed and published in order, so each connection uses one handle.
/// Choosing the lane by source would also keep the order across connections, but a batch of several sources would then need
/// several commits, some of which may fail.
#[derive(Clone)]
pub struct Ingest {
    lanes: Arc<[mpsc::UnboundedSender<Submission>]>,
    lane: usize,
    room: Arc<Semaphore>,
    /// Permits of `room` in total.
    capacity: u32,
    metrics: Arc<IngestMetrics>,
}

/// A handle that does not keep the lanes from ending: for the admin port, which is served until the process ends.
#[derive(Clone)]
pub struct WeakIngest {
    lanes: Weak<[mpsc::UnboundedSender<Submission>]>,
    lane: usize,
    room: Arc<Semaphore>,
    capacity: u32,
    metrics: Arc<IngestMetrics>,
}

impl WeakIngest {
    /// The handle; `None` once the server stops accepting events.
    #[must_use]
    pub fn upgrade(&self) -> Option<Ingest> {
        let Self { lanes, lane, room, capacity, metrics } = self.clone();
        Some(Ingest { lanes: lanes.upgrade()?, lane, room, capacity, metrics })
    }
}

/// The ports that the write path needs.
#[derive(Clone)]
pub struct IngestPorts {
    /// Records events.
    pub store: Arc<dyn EventStore>,
    /// Holds the commits that are not published.
    pub outbox: Arc<dyn Outbox>,
    /// Publishes events.
    pub producer: Arc<dyn LogProducer>,
    /// Starts spans of commits and of publishing.
    pub traces: Traces,
}

impl Ingest {
    /// Starts lanes, publishers and the relay as tasks of `tasks`. They end once every clone of the returned handle is
    /// dropped and what was accepted is committed and, within `settings.timeout`, published.
    pub fn start(
        ports: IngestPorts,
        settings: IngestSettings,
        metrics: Arc<IngestMetrics>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        // Until the number of partitions is known, everything goes to the first one, which always exists.
        let partitions = Arc::new(AtomicU32::new(1));
        let orphaned = Arc::new(Notify::new());
        let store_full = Arc::new(StoreFull::new(metrics.store_full.clone()));
        // Saturates: four billion waiting events would not fit in memory.
        let capacity = u32::try_from(settings.queue_events).unwrap_or(u32::MAX);
        let (alive, done) = tokio::sync::watch::channel(());
        let lanes = (0..settings.lanes.max(1))
            .map(|_| {
                let (sender, queue) = mpsc::unbounded_channel();
                let lane = lane::Lane::new(
                    ports.clone(),
                    settings.clone(),
                    queue,
                    Arc::clone(&partitions),
                    Arc::clone(&orphaned),
                    Arc::clone(&store_full),
                    Arc::clone(&metrics),
                );
                let alive = alive.clone();
                tasks.spawn(async move {
                    lane.run().await;
                    drop(alive);
                });
                sender
            })
            .collect();
        tasks.spawn(relay::run(ports, orphaned, done, Arc::clone(&metrics)));
        Self { lanes, lane: 0, room: Arc::new(Semaphore::new(capacity as usize)), capacity, metrics }
    }

    /// A handle that does not keep the lanes from ending.
    #[must_use]
    pub fn downgrade(&self) -> WeakIngest {
        let Self { lanes, lane, room, capacity, metrics } = self.clone();
        WeakIngest { lanes: Arc::downgrade(&lanes), lane, room, capacity, metrics }
    }

    /// One handle per lane.
    #[must_use]
    pub fn lane_handles(&self) -> Vec<Self> {
        (0..self.lanes.len()).map(|lane| Self { lane, ..self.clone() }).collect()
    }

    /// Records events, or rejects them at once when the queue is full: for callers that wait for one answer. `trace` is the span of the
    /// call, if it is traced.
    ///
    /// # Errors
    /// When the events are not acknowledged; see [`Refusal`].
    pub async fn submit(&self, events: Vec<Event>, trace: Option<TraceContext>) -> Result<Receipt, Refusal> {
        let room = match Arc::clone(&self.room).try_acquire_many_owned(self.permits(&events)) {
            Ok(room) => room,
            Err(TryAcquireError::NoPermits) => {
                self.metrics.refused_full.inc();
                return Err(Refusal::Full(Duration::from_millis(100)));
            }
            Err(TryAcquireError::Closed) => return Err(Refusal::ShuttingDown),
        };
        self.enqueue(events, trace, room).await
    }

    /// Records events as soon as the queue has room: for streams, whose flow control slows the sender down meanwhile. `trace` is the span
    /// of the call, if it is traced.
    ///
    /// # Errors
    /// When the events are not acknowledged; see [`Refusal`].
    pub async fn submit_when_room(&self, events: Vec<Event>, trace: Option<TraceContext>) -> Result<Receipt, Refusal> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.permits(&events)).await;
        self.enqueue(events, trace, room.map_err(|_| Refusal::ShuttingDown)?).await
    }

    /// A batch that is larger than the queue takes all of it; it would otherwise wait indefinitely.
    fn permits(&self, events: &[Event]) -> u32 {
        u32::try_from(events.len()).map_or(self.capacity, |events| events.min(self.capacity))
    }

    async fn enqueue(
        &self,
        events: Vec<Event>,
        trace: Option<TraceContext>,
        room: OwnedSemaphorePermit,
    ) -> Result<Receipt, Refusal> {
        // A batch has at least one event.
        if events.is_empty() {
            return Ok(Receipt::default());
        }
        let (reply, answer) = oneshot::channel();
        let submission = Submission { events, trace, reply, _room: room };
        self.lanes[self.lane].send(submission).map_err(|_| Refusal::ShuttingDown)?;
        answer.await.unwrap_or_else(|_| Err(Refusal::OutcomeUnknown("the lane stopped".into())))
    }
}
