//! The store as a process sees it: calls fail, answers get lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use ping_core::{Event, LastSeqs, Minute, Seq, TimeRange, WriterId};
use ping_memory::MemoryStore;
use ping_ports::{
    Batch, CommitError, Committed, Counted, EventStore, Outbox, OutboxRow, OutboxWatermark, RangeCountError, Recount,
    Snapshot, StoreError, TotalsStore,
};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    bugs::Bug,
    rng::{CallOutcome, Host},
};

#[derive(Clone)]
pub struct FaultyStore {
    pub host: Host,
    pub inner: Arc<MemoryStore>,
    /// The snapshot of a rebuild that reads it too early; see [`Bug::SnapshotBeforeEnds`].
    pub early: Arc<Mutex<Option<Snapshot>>>,
    /// What was deleted from the outbox; see [`Bug::ForgottenOnce`].
    forgotten: Arc<Mutex<BTreeMap<WriterId, Seq>>>,
}

pub fn unavailable() -> StoreError {
    StoreError("the store is unavailable (simulated)".into())
}

impl FaultyStore {
    pub fn new(host: &Host, inner: &Arc<MemoryStore>) -> Self {
        Self { host: host.clone(), inner: Arc::clone(inner), early: Arc::default(), forgotten: Arc::default() }
    }

    fn with_bug(&self, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        if self.host.rng.bug == Some(Bug::IdsNotUnique) {
            let fresh = |event: &Event| Event { id: Uuid::from_u128(self.host.rng.id()), ..event.clone() };
            batch.events = Arc::new(batch.events.iter().map(fresh).collect());
        }
        batch
    }
}

#[async_trait]
impl EventStore for FaultyStore {
    async fn open_writer(&self, lease: Duration) -> Result<WriterId, StoreError> {
        self.host.call(unavailable, self.inner.open_writer(lease)).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, CommitError> {
        let batch = self.with_bug(batch);
        self.host.pause().await;
        if self.host.rng.bug == Some(Bug::AcknowledgedTooEarly) && self.host.rng.fault(5) {
            return Ok(Committed::default());
        }
        let unknown = || Err(CommitError::Unknown("connection lost (simulated)".into()));
        if self.host.rng.bug == Some(Bug::GapsCommitted) {
            self.inner.skip_to(batch.writer, batch.first_seq);
        }
        match self.host.call_outcome() {
            CallOutcome::Done => {
                let answer = self.inner.commit(&batch).await;
                self.host.pause().await;
                answer
            }
            CallOutcome::Lost if self.host.rng.chance(50) => Err(CommitError::Refused("refused (simulated)".into())),
            CallOutcome::Lost => unknown(),
            CallOutcome::AnswerLost => {
                let _ = self.inner.commit(&batch).await;
                unknown()
            }
            CallOutcome::Late(time) => {
                let (inner, rng, restores) = (Arc::clone(&self.inner), self.host.rng.clone(), self.host.rng.restores());
                tokio::spawn(async move {
                    sleep(time).await;
                    if rng.restores() == restores {
                        let _ = inner.commit(&batch).await;
                    }
                });
                unknown()
            }
        }
    }

    async fn renew(&self, writer: WriterId, last: Seq, lease: Duration) -> Result<bool, StoreError> {
        self.host.call(unavailable, self.inner.renew(writer, last, lease)).await
    }

    async fn close_writer(&self, writer: WriterId) -> Result<Seq, StoreError> {
        self.host.call(unavailable, self.inner.close_writer(writer)).await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Event>, StoreError> {
        self.host.call(unavailable, self.inner.find(ids)).await
    }
}

#[async_trait]
impl Outbox for FaultyStore {
    async fn unpublished(&self, writer: WriterId, after: Seq, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        // Small answers need many rounds.
        let limit = limit.min(1 + usize::try_from(self.host.rng.below(20)).unwrap());
        self.host.call(unavailable, self.inner.unpublished(writer, after, limit)).await
    }

    async fn forget(&self, writer: WriterId, seq: Seq) -> Result<(), StoreError> {
        if self.host.rng.bug == Some(Bug::ForgottenOnce) && self.forgotten.lock().get(&writer) == Some(&seq) {
            return Ok(());
        }
        self.host.call(unavailable, self.inner.forget(writer, seq)).await?;
        self.forgotten.lock().insert(writer, seq);
        Ok(())
    }

    async fn claim_orphan(&self, lease: Duration) -> Result<Option<WriterId>, StoreError> {
        self.host.call(unavailable, self.inner.claim_orphan(lease)).await
    }

    async fn outbox_watermark(&self) -> Result<OutboxWatermark, StoreError> {
        let outbox_watermark = self.host.call(unavailable, self.inner.outbox_watermark()).await?;
        let ignores_outbox = self.host.rng.bug == Some(Bug::WatermarkIgnoresOutbox);
        Ok(if ignores_outbox {
            OutboxWatermark { oldest_unpublished: None, ..outbox_watermark }
        } else {
            outbox_watermark
        })
    }

    async fn last_seqs(&self, writers: &[WriterId]) -> Result<LastSeqs, StoreError> {
        let last_seqs = self.host.call(unavailable, self.inner.last_seqs(writers)).await?;
        if self.host.rng.bug == Some(Bug::StoreNotCompared) {
            let live = writers.iter().map(|writer| (*writer, Seq::MAX)).collect();
            return Ok(LastSeqs { live, ..last_seqs });
        }
        Ok(last_seqs)
    }
}

#[async_trait]
impl TotalsStore for FaultyStore {
    async fn count(&self, range: Option<TimeRange>) -> Result<Counted, RangeCountError> {
        self.host.call(|| unavailable().into(), self.inner.count(range)).await
    }

    async fn snapshot(&self, since: Minute, touched: Duration) -> Result<Snapshot, StoreError> {
        let early = self.early.lock().take();
        match early {
            // A rebuild reads the minutes that were changed lately; an audit does not.
            Some(early) if !touched.is_zero() => Ok(early),
            _ => self.host.call(unavailable, self.inner.snapshot(since, touched)).await,
        }
    }

    async fn recount(&self) -> Result<Recount, StoreError> {
        self.host.call(unavailable, self.inner.recount()).await
    }

    async fn compact_writers(&self, age: Duration) -> Result<Vec<WriterId>, StoreError> {
        self.host.call(unavailable, self.inner.compact_writers(age)).await
    }
}
