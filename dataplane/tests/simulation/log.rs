//! The log as a process sees it: calls fail, answers get lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use ping_core::{Minute, Offset, Partition, WriterId};
use ping_memory::{MemoryConsumer, MemoryLog};
use ping_ports::{
    Bounds, ConsumerEvent, DeadLetter, LogBounds, LogConsumer, LogError, LogEvent, LogProducer, OutboxRow, Record,
    TotalsStore,
};
use tokio::time::sleep;

use crate::{
    bugs::Bug,
    rng::{CallOutcome, Host},
    store::FaultyStore,
};

fn unavailable() -> LogError {
    LogError("the log is unavailable (simulated)".into())
}

#[derive(Clone)]
pub struct FaultyLog {
    pub host: Host,
    pub inner: MemoryLog,
    pub store: FaultyStore,
}

impl FaultyLog {
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
                let (log, rest) = (self.inner.clone(), records[cut..].to_vec());
                tokio::spawn(async move {
                    for (partition, event) in rest {
                        sleep(time / 4).await;
                        log.append(partition, Ok(event));
                    }
                });
                Err(unavailable())
            }
        }
    }

    async fn partitions(&self) -> Result<u32, LogError> {
        self.host.call(unavailable, self.inner.partitions()).await
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
        self.host.call(unavailable, self.inner.bounds()).await
    }

    async fn records_at(&self, offsets: &BTreeMap<Partition, Offset>) -> Result<Vec<Record>, LogError> {
        self.host.call(unavailable, self.inner.records_at(offsets)).await
    }
}

/// The offsets that processors committed to the log.
pub type CommittedOffsets = Arc<Mutex<BTreeMap<Partition, Offset>>>;

pub struct FaultyConsumer {
    pub host: Host,
    pub inner: MemoryConsumer,
    pub committed: CommittedOffsets,
}

#[async_trait]
impl LogConsumer for FaultyConsumer {
    async fn next(&mut self) -> Result<ConsumerEvent, LogError> {
        self.host.pause().await;
        if self.host.rng.fault(2) {
            return Err(unavailable());
        }
        // No await point may follow that takes records: `next` may be dropped while it waits.
        self.inner.next().await
    }

    async fn start(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), LogError> {
        self.host.pause().await;
        let mut offsets = offsets.clone();
        if self.host.rng.bug == Some(Bug::CommittedOffsetsUsed) {
            for (partition, offset) in &mut offsets {
                *offset = self.committed.lock().get(partition).copied().unwrap_or(*offset);
            }
        }
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
