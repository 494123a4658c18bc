//! The store of record: it decides what happened.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::Cause;
use ping_core::{Event, Millis, Minute, Partition, Seq, TimeRange, WriterId, partition_of};

/// The store could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the store is unavailable")]
pub struct StoreError(#[source] pub Cause);

/// Why a batch has no acknowledgement.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The writer is closed: nothing was done, and never will be under this writer.
    #[error("the writer was fenced")]
    Fenced,
    /// Nothing was done; trying again may help.
    #[error("the store refused the batch")]
    Refused(#[source] Cause),
    /// The answer is lost; the batch may be committed, now or a little later.
    #[error("the outcome of the commit is unknown")]
    Unknown(#[source] Cause),
}

/// What one lane commits at once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The lane's writer.
    pub writer: WriterId,
    /// Number of the first event; the others follow without gaps.
    pub first_seq: Seq,
    /// Distinct by id.
    pub events: Arc<Vec<Event>>,
    /// How many partitions the topic had; kept so that a replay lands where the first try did.
    pub partitions: u32,
    /// Where events without a source go.
    pub partition: Partition,
    /// How long the writer stays open without another sign of life.
    pub lease: Duration,
}

impl Batch {
    /// Number of the last event.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.first_seq + i64::try_from(self.events.len()).unwrap_or(i64::MAX) - 1
    }

    /// Where `event` travels: by its source, or with the rest of the batch.
    #[must_use]
    pub fn partition_of(&self, event: &Event) -> Partition {
        if event.source.is_empty() { self.partition } else { partition_of(&event.source, self.partitions) }
    }
}

/// A batch that is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Store time at the start of the commit: not after any acknowledgement of the batch.
    pub at: Millis,
    /// Ids that were in the store before; they got no row and are not published.
    pub known: HashSet<Uuid>,
}

/// One commit that Kafka may not have yet.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    /// The commit; `events` holds those that were known before, too.
    pub batch: Batch,
    /// When, and without which events.
    pub committed: Committed,
}

impl OutboxRow {
    /// The events to publish, with their numbers and partitions, in order.
    pub fn records(&self) -> impl Iterator<Item = (Seq, Partition, &Event)> {
        let new = |event: &Event| self.committed.known.is_empty() || !self.committed.known.contains(&event.id);
        (self.batch.first_seq..)
            .zip(self.batch.events.iter())
            .filter(move |(_, event)| new(event))
            .map(|(seq, event)| (seq, self.batch.partition_of(event), event))
    }
}

/// Writing events. One implementation per technology; see the contract tests for the promises in executable form.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Opens a writer whose id was never used before.
    async fn open_writer(&self, lease: Duration) -> Result<WriterId, StoreError>;

    /// In one atomic step, and only while the writer is open: inserts the events that are new by id, adds them to the
    /// writer's total and to the rollups, notes the batch in the outbox, moves `last_seq`, renews the lease.
    async fn commit(&self, batch: &Batch) -> Result<Committed, CommitError>;

    /// Renews the lease; false when the writer is closed.
    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<bool, StoreError>;

    /// Closes the writer for ever and tells its last number. After it, no statement of this writer has any effect, even one
    /// that is still on its way: so the answer settles what a lost connection left open.
    async fn close_writer(&self, writer: WriterId) -> Result<Seq, StoreError>;

    /// The stored events among `ids`.
    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Event>, StoreError>;
}

/// Time up to which the store has handed everything to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxWatermark {
    /// Store time of the question, taken before looking.
    pub now: Millis,
    /// Commit time of the oldest row still in the outbox.
    pub oldest_unpublished: Option<Millis>,
}

impl OutboxWatermark {
    /// Everything acknowledged before this time had left the outbox.
    #[must_use]
    pub fn published_until(self) -> Millis {
        self.oldest_unpublished.map_or(self.now, |oldest| oldest.min(self.now))
    }
}

/// What was committed and may not be published.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Rows of `writer` whose last number is above `after`, in order, until they hold `limit` events.
    async fn unpublished(&self, writer: WriterId, after: Seq, limit: usize) -> Result<Vec<OutboxRow>, StoreError>;

    /// Forgets the rows of `writer` up to `seq`: the log has them.
    async fn forget(&self, writer: WriterId, seq: Seq) -> Result<(), StoreError>;

    /// Closes writers whose lease ran out, and lends one closed writer that still has rows, for `lease`, to the caller.
    async fn claim_orphan(&self, lease: Duration) -> Result<Option<WriterId>, StoreError>;

    /// How far publishing has come.
    async fn outbox_watermark(&self) -> Result<OutboxWatermark, StoreError>;
}

/// One writer's share of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterTotal {
    /// The writer.
    pub writer: WriterId,
    /// Its last committed number.
    pub last_seq: Seq,
}

/// One consistent look at the totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Store time, taken before looking: everything acknowledged before it is in.
    pub at: Millis,
    /// All events.
    pub total: i64,
    /// Events per minute, for the minutes that were asked for.
    pub minutes: BTreeMap<Minute, i64>,
    /// Every writer that may still appear in the log.
    pub writers: Vec<WriterTotal>,
}

/// Rows against totals, in one consistent look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recount {
    /// Rows, counted one by one.
    pub rows: i64,
    /// Sum of the writers' totals.
    pub total: i64,
    /// Sum of the per-minute counts.
    pub minutes_total: i64,
    /// Sum of the per-day counts.
    pub days_total: i64,
    /// Minutes whose rows and per-minute counts differ, the first hundred.
    pub differing_minutes: Vec<Minute>,
}

/// Reading totals: exact at all times, for the price of a few small rows.
#[async_trait]
pub trait TotalsStore: Send + Sync {
    /// How many events there are, all or in a range. Everything acknowledged before the call is in.
    async fn count(&self, range: Option<TimeRange>) -> Result<i64, StoreError>;

    /// Totals, writers, and the minutes from `since` on or touched in the last `touched`.
    async fn snapshot(&self, since: Minute, touched: Duration) -> Result<Snapshot, StoreError>;

    /// Counts every row: slow on purpose.
    async fn recount(&self) -> Result<Recount, StoreError>;

    /// Folds writers that were closed longer than `age` ago, and have nothing in the outbox, into one. Returns those.
    async fn compact_writers(&self, age: Duration) -> Result<Vec<WriterId>, StoreError>;
}
