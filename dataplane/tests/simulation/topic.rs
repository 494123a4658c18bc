//! The topic, which may be deleted and created again.
//!
//! ADR 35 lists what no program notices. The simulation does not create
//! - a topic that grows past its positions while a processor is stopped, or while it rebuilds: until every processor has noticed, the topic stays
//!   deleted or takes no records, and a rebuild that began with another topic fails;
//! - a topic that is created again between a backup of the store and its restore: backups are made again once the views are of this topic.
//!
//! It cannot prevent that only replays lie before the old positions, or nothing. [`Topic::session_starts`] recognises that, and the result of such a
//! schedule is not used.

use std::{
    collections::BTreeMap,
    future::Future,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use ping_core::{Generation, Minute, Offset, Partition, Positions, Seq, WriterId};
use ping_memory::{MemoryLog, MemoryStore};
use ping_ports::{Bounds, LogBounds, LogError, Outbox, TotalsStore};
use tokio::sync::Notify;

#[derive(Default)]
struct State {
    is_deleted: AtomicBool,
    /// Wakes consumers in the order in which they wait.
    deleted: Notify,
    refuses_records: AtomicBool,
    /// How often it was created again.
    incarnation: AtomicU64,
    /// The incarnation that each generation was built from.
    generations: Mutex<BTreeMap<Generation, u64>>,
    /// The last event of each writer when the topic was created again.
    earlier: Mutex<BTreeMap<WriterId, Seq>>,
    /// A session started that could not notice that the topic is another one.
    is_unnoticed: AtomicBool,
}

/// The topic. Clones share it.
#[derive(Clone, Default)]
pub struct Topic(Arc<State>);

impl Topic {
    pub fn delete(&self) {
        self.0.is_deleted.store(true, Ordering::Relaxed);
        self.0.deleted.notify_waiters();
    }

    pub async fn create(&self, log: &MemoryLog, store: &MemoryStore) {
        let writers = store.snapshot(Minute(0), Duration::ZERO).await.unwrap().writers;
        *self.0.earlier.lock() = writers.into_iter().map(|writer| (writer.writer, writer.last_seq)).collect();
        log.recreate();
        self.0.incarnation.fetch_add(1, Ordering::Relaxed);
        self.0.is_deleted.store(false, Ordering::Relaxed);
    }

    /// Fails while it is deleted.
    pub fn exists(&self) -> Result<(), LogError> {
        if self.0.is_deleted.load(Ordering::Relaxed) {
            Err(LogError("the topic does not exist (simulated)".into()))
        } else {
            Ok(())
        }
    }

    /// It has no leader that takes records.
    pub fn refuse_records(&self, refuse: bool) {
        self.0.refuses_records.store(refuse, Ordering::Relaxed);
    }

    /// Fails while it takes no records.
    pub fn takes_records(&self) -> Result<(), LogError> {
        match self.0.refuses_records.load(Ordering::Relaxed) {
            true => Err(LogError("the topic has no leader (simulated)".into())),
            false => self.exists(),
        }
    }

    /// Returns when it is deleted.
    pub async fn deleted(&self) -> LogError {
        loop {
            let deleted = self.0.deleted.notified();
            if self.exists().is_err() {
                break;
            }
            deleted.await;
        }
        LogError("the topic was deleted (simulated)".into())
    }

    fn incarnation(&self) -> u64 {
        self.0.incarnation.load(Ordering::Relaxed)
    }

    /// Whether the positions of `generation` are offsets of this topic, and not of an earlier one.
    pub fn is_of(&self, generation: &Generation) -> bool {
        self.0.generations.lock().get(generation) == Some(&self.incarnation())
    }

    /// Whether a session started that could not notice that the topic is another one.
    pub fn is_unnoticed(&self) -> bool {
        self.0.is_unnoticed.load(Ordering::Relaxed)
    }

    /// A session starts at `positions`. Notes if they are of an earlier topic and nothing shows it: this one has grown past them, and
    /// before each lies nothing, or an event that was committed before the topic was created again.
    pub async fn session_starts(&self, positions: Option<Positions>, log: &MemoryLog, store: &MemoryStore) {
        let Some(positions) = positions.filter(|positions| !self.is_of(&positions.generation)) else { return };
        let bounds = log.bounds().await.unwrap();
        for (partition, next) in positions.offsets.into_iter().filter(|(_, next)| *next > 0) {
            let Bounds { low, end } = bounds[&partition];
            if !(low..=end).contains(&next) || next > low && self.is_new(log, store, partition, next - 1).await {
                return;
            }
        }
        self.0.is_unnoticed.store(true, Ordering::Relaxed);
    }

    /// Whether the event at `offset` is in the store, and was committed since the topic was created again.
    async fn is_new(&self, log: &MemoryLog, store: &MemoryStore, partition: Partition, offset: Offset) -> bool {
        let records = log.records_at(&[(partition, offset)].into()).await.unwrap();
        let Ok(event) = &records[0].body else { return false };
        let stored = store.last_seqs(&[event.writer]).await.unwrap().get(event.writer);
        let earlier = self.0.earlier.lock().get(&event.writer).copied().unwrap_or(0);
        (earlier + 1..=stored).contains(&event.seq)
    }
}

/// The topic as a projection sees it.
#[derive(Clone)]
pub struct TopicOfProjection {
    topic: Topic,
    /// The incarnation that ends were read of.
    read: Arc<AtomicU64>,
}

impl Deref for TopicOfProjection {
    type Target = Topic;

    fn deref(&self) -> &Topic {
        &self.topic
    }
}

impl TopicOfProjection {
    pub fn new(topic: &Topic) -> Self {
        Self { topic: topic.clone(), read: Arc::default() }
    }

    pub fn ends_are_read(&self) {
        self.read.store(self.topic.incarnation(), Ordering::Relaxed);
    }

    /// `rebuild` to `generation`. Fails if the topic is no longer the one that ends were read of.
    pub fn rebuilt<E, R>(
        &self,
        generation: Generation,
        error: fn() -> E,
        rebuild: R,
    ) -> impl Future<Output = Result<bool, E>> + use<E, R>
    where
        R: Future<Output = Result<bool, E>>,
    {
        let (topic, read) = (self.topic.clone(), self.read.load(Ordering::Relaxed));
        async move {
            if read != topic.incarnation() {
                return Err(error());
            }
            let is_rebuilt = rebuild.await?;
            if is_rebuilt {
                topic.0.generations.lock().insert(generation, read);
            }
            Ok(is_rebuilt)
        }
    }
}
