//! The write path: callers → lanes → store → publisher → log. A lane acknowledges what the store has; whatever the log
//! does not have yet is in the outbox, and is published by the lane's publisher or, once the lane is gone, by a relay.

mod assemble;
mod lane;
mod metrics;
mod publisher;
mod relay;

pub use metrics::IngestMetrics;

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot},
    task::JoinSet,
};

use ping_core::{Event, Token};
use ping_ports::{EventStore, LogProducer, Outbox};

/// How the write path behaves. The defaults are what the benchmarks run with.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// Write lanes: one is as fast as several on a fast disk. See [`Ingest::lane_handles`].
    pub lanes: usize,
    /// Events waiting or being committed, over all lanes; beyond it callers are told to come back.
    pub queue_events: usize,
    /// Events per commit, about: a batch of a stream is never split.
    pub batch_events: usize,
    /// A writer without a sign of life for this long is closed, and its outbox relayed.
    pub lease: Duration,
    /// How long callers wait for a store that does not answer.
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

/// What a caller is told of events that are durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// How many were new; the others had been acknowledged before.
    pub accepted: usize,
    /// For the last new one: what to wait for to see it counted.
    pub token: Option<Token>,
    /// Indices of events whose id stands for other content: refused.
    pub conflicts: Vec<usize>,
}

/// Why nothing is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue is full.
    #[error("the server's queue is full; retry in {} ms with the same event_id", .0.as_millis())]
    Full(Duration),
    /// The store is away; nothing was done.
    #[error("the store is unavailable and nothing was recorded; retry: {0}")]
    Unavailable(String),
    /// The store went away in mid-commit.
    #[error("outcome unknown; retry with the same event_id: {0}")]
    OutcomeUnknown(String),
    /// The server is going down.
    #[error("the server is shutting down and nothing was recorded; retry, another replica will answer")]
    ShuttingDown,
}

/// Events of one caller on their way through a lane.
struct Submission {
    events: Vec<Event>,
    reply: oneshot::Sender<Result<Receipt, Refusal>>,
    _room: OwnedSemaphorePermit,
}

/// Entrance to the write path, and to one lane of it. Cheap to clone; the lanes drain and end when the last clone is gone.
///
/// Events that come by the same entrance are committed and published in their order. So a connection keeps to one. By source would
/// keep the order among connections, too, but a batch of several sources would have to be committed in several pieces, of which
/// some may fail.
#[derive(Clone)]
pub struct Ingest {
    lanes: Arc<[mpsc::UnboundedSender<Submission>]>,
    lane: usize,
    room: Arc<Semaphore>,
    capacity: usize,
    metrics: Arc<IngestMetrics>,
}

/// What the write path needs.
#[derive(Clone)]
pub struct IngestPorts {
    /// Decides what happened.
    pub store: Arc<dyn EventStore>,
    /// Holds what is not published.
    pub outbox: Arc<dyn Outbox>,
    /// Carries it on.
    pub sink: Arc<dyn LogProducer>,
}

impl Ingest {
    /// Starts lanes, publishers and the relay as tasks of `tasks`. They end by themselves once every clone of the returned
    /// handle is dropped and what was accepted is committed and, within `settings.timeout`, published.
    pub fn start(
        ports: IngestPorts,
        settings: IngestSettings,
        metrics: Arc<IngestMetrics>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        // Until the topic could be asked: the first partition is there, and stays where it is when the topic grows.
        let partitions = Arc::new(AtomicU32::new(1));
        let orphaned = Arc::new(Notify::new());
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
        Self {
            lanes,
            lane: 0,
            room: Arc::new(Semaphore::new(settings.queue_events)),
            capacity: settings.queue_events,
            metrics,
        }
    }

    /// An entrance to each lane.
    #[must_use]
    pub fn lane_handles(&self) -> Vec<Self> {
        (0..self.lanes.len()).map(|lane| Self { lane, ..self.clone() }).collect()
    }

    /// Records events now, or says that the queue is full: for callers that wait for one answer.
    ///
    /// # Errors
    /// When nothing is acknowledged; see [`Refusal`].
    pub async fn submit(&self, events: Vec<Event>) -> Result<Receipt, Refusal> {
        let room = match Arc::clone(&self.room).try_acquire_many_owned(self.permits(&events)) {
            Ok(room) => room,
            Err(TryAcquireError::NoPermits) => {
                self.metrics.refused_full.inc();
                return Err(Refusal::Full(Duration::from_millis(100)));
            }
            Err(TryAcquireError::Closed) => return Err(Refusal::ShuttingDown),
        };
        self.enqueue(events, room).await
    }

    /// Records events as soon as the queue has room: for streams, whose flow control holds the sender back meanwhile.
    ///
    /// # Errors
    /// When nothing is acknowledged; see [`Refusal`].
    pub async fn submit_when_room(&self, events: Vec<Event>) -> Result<Receipt, Refusal> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.permits(&events)).await;
        self.enqueue(events, room.map_err(|_| Refusal::ShuttingDown)?).await
    }

    /// A batch larger than the queue takes all of it rather than waiting for ever.
    fn permits(&self, events: &[Event]) -> u32 {
        u32::try_from(events.len().min(self.capacity)).unwrap_or(u32::MAX)
    }

    async fn enqueue(&self, events: Vec<Event>, room: OwnedSemaphorePermit) -> Result<Receipt, Refusal> {
        // A batch has a last event; nothing at all is recorded as it is.
        if events.is_empty() {
            return Ok(Receipt::default());
        }
        let (reply, answer) = oneshot::channel();
        self.lanes[self.lane].send(Submission { events, reply, _room: room }).map_err(|_| Refusal::ShuttingDown)?;
        answer.await.unwrap_or_else(|_| Err(Refusal::OutcomeUnknown("the lane ended".into())))
    }
}
