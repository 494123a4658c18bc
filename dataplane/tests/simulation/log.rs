//! The log as a process sees it: calls fail, answers get lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use ping_core::{Minute, Offset, Partition, Positions, WriterId};
use ping_memory::{MemoryCache, MemoryConsumer, MemoryLog};
use ping_ports::{
    Bounds, ConsumerEvent, CounterCache, DeadLetter, LogBounds, LogConsumer, LogError, LogEvent, LogProducer,
    OutboxRow, Record, SourceViews, TotalsStore,
};
use tokio::{select, time::sleep};

use crate::{
    bugs::Bug,
    rng::{CallOutcome, Host},
    store::FaultyStore,
    topic::{Topic, TopicOfProjection},
};

fn unavailable() -> LogError {
    LogError("the log is unavailable (simulated)".into())
}

#[derive(Clone)]
pub struct FaultyLog {
    pub host: Host,
    pub inner: MemoryLog,
    pub store: FaultyStore,
    pub topic: TopicOfProjection,
    /// The highest ends of partitions that were read; see [`Bug::LogEndsNotCompared`].
    highest_ends: Arc<Mutex<BTreeMap<Partition, Offset>>>,
}

impl FaultyLog {
    pub fn new(inner: &MemoryLog, store: &FaultyStore, topic: &Topic) -> Self {
        Self {
            host: store.host.clone(),
            inner: inner.clone(),
            store: store.clone(),
            topic: TopicOfProjection::new(topic),
            highest_ends: Arc::default(),
        }
    }

    fn records(&self, rows: &[OutboxRow]) -> Vec<(Partition, LogEvent)> {
        let renumbered = WriterId(i64::try_from(self.host.rng.below(1 << 40)).unwrap() + 1_000);
        let mut records = Vec::new();
        for row in rows {
            let bug = self.host.rng.bug == Some(Bug::ReplayUnderNewWriter);
            let writer = if bug { renumbered } else { row.batch.writer };
            records.extend(row.records().map(|(seq, partition, event)| (partition, LogEvent::of(writer, seq, event))));
        }
        if self.host.rng.bug == Some(Bug::PublishedOutOfOrder) {
            records.reverse();
        }
        records
    }
}

#[async_trait]
impl LogProducer for FaultyLog {
    async fn publish(&self, rows: Vec<OutboxRow>) -> Result<(), LogError> {
        let records = self.records(&rows);
        let outcome = self.host.call_outcome();
        let cut = match outcome {
            CallOutcome::Done | CallOutcome::AnswerLost => records.len(),
            CallOutcome::Lost | CallOutcome::Late(_) => {
                usize::try_from(self.host.rng.below(records.len() as u64 + 1)).unwrap()
            }
        };
        for (partition, event) in &records[..cut] {
            if self.host.rng.chance(20) {
                self.host.pause().await;
            }
            self.topic.takes_records()?;
            self.inner.append(*partition, Ok(event.clone()));
        }
        self.host.pause().await;
        if self.host.rng.bug == Some(Bug::PublishedTooEarly) {
            return Ok(());
        }
        match outcome {
            CallOutcome::Done => Ok(()),
            CallOutcome::Lost | CallOutcome::AnswerLost => Err(unavailable()),
            CallOutcome::Late(time) => {
                let (log, topic, rest) = (self.inner.clone(), self.topic.clone(), records[cut..].to_vec());
                tokio::spawn(async move {
                    for (partition, event) in rest {
                        sleep(time / 4).await;
                        if topic.takes_records().is_err() {
                            break;
                        }
                        log.append(partition, Ok(event));
                    }
                });
                Err(unavailable())
            }
        }
    }

    async fn partitions(&self) -> Result<u32, LogError> {
        let partitions = async {
            self.topic.exists()?;
            self.inner.partitions().await
        };
        self.host.call(unavailable, partitions).await
    }

    async fn dead_letter(&self, letters: Vec<DeadLetter>) -> Result<(), LogError> {
        self.host.call(unavailable, self.inner.dead_letter(letters)).await
    }
}

#[async_trait]
impl LogBounds for FaultyLog {
    async fn bounds(&self) -> Result<BTreeMap<Partition, Bounds>, LogError> {
        if self.host.rng.bug == Some(Bug::SnapshotBeforeEnds) {
            let early = self.store.inner.snapshot(Minute(0), Duration::ZERO).await.unwrap();
            *self.store.early.lock() = Some(early);
            self.host.pause().await;
        }
        let bounds = async {
            self.topic.exists()?;
            self.topic.ends_are_read();
            self.inner.bounds().await
        };
        let mut bounds = self.host.call(unavailable, bounds).await?;
        if self.host.rng.bug == Some(Bug::LogEndsNotCompared) {
            let mut highest_ends = self.highest_ends.lock();
            for (partition, bounds) in &mut bounds {
                let highest = highest_ends.entry(*partition).or_insert(0);
                *highest = bounds.end.max(*highest);
                bounds.end = *highest;
            }
        }
        Ok(bounds)
    }

    async fn records_at(&self, offsets: &BTreeMap<Partition, Offset>) -> Result<Vec<Record>, LogError> {
        if self.host.rng.bug == Some(Bug::RecordsNotCompared) {
            return Ok(Vec::new());
        }
        let records = async {
            self.topic.exists()?;
            self.inner.records_at(offsets).await
        };
        self.host.call(unavailable, records).await
    }
}

/// The offsets that processors committed to the log.
pub type CommittedOffsets = Arc<Mutex<BTreeMap<Partition, Offset>>>;

pub struct FaultyConsumer {
    pub log: FaultyLog,
    pub inner: MemoryConsumer,
    pub committed: CommittedOffsets,
    /// Where the positions of the counters are. Those of the views are in the store.
    pub cache: Option<Arc<MemoryCache>>,
}

impl FaultyConsumer {
    async fn positions(&self) -> Option<Positions> {
        match &self.cache {
            Some(cache) => cache.positions().await.unwrap(),
            None => self.log.store.inner.positions().await.unwrap().map(|views| views.positions),
        }
    }
}

#[async_trait]
impl LogConsumer for FaultyConsumer {
    async fn next(&mut self) -> Result<ConsumerEvent, LogError> {
        self.log.host.pause().await;
        if self.log.host.rng.fault(2) {
            return Err(unavailable());
        }
        // No await point may follow that takes records: `next` may be dropped while it waits.
        select! {
            biased;
            error = self.log.topic.deleted() => Err(error),
            event = self.inner.next() => event,
        }
    }

    async fn start(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), LogError> {
        self.log.host.pause().await;
        let mut offsets = offsets.clone();
        if self.log.host.rng.bug == Some(Bug::CommittedOffsetsUsed) {
            for (partition, offset) in &mut offsets {
                *offset = self.committed.lock().get(partition).copied().unwrap_or(*offset);
            }
        }
        let FaultyLog { inner, store, topic, .. } = &self.log;
        topic.session_starts(self.positions().await, inner, &store.inner).await;
        self.inner.start(&offsets).await
    }

    fn commit(&self, offsets: &BTreeMap<Partition, Offset>) {
        for (partition, offset) in offsets {
            let mut committed = self.committed.lock();
            let entry = committed.entry(*partition).or_insert(0);
            *entry = (*entry).max(*offset);
        }
    }
}
