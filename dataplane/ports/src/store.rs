//! The store of record: an event happened if it is in the store.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{causes::Cause, traces::TraceContext};
use ping_core::{Event, LastSeqs, Millis, Minute, Partition, Seq, TimeRange, WriterId, partition_of, seq_offset};

/// The store cannot be reached or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the store is unavailable")]
pub struct StoreError(#[source] pub Cause);

/// Why a batch is not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The writer is closed, or the store does not have all of its earlier batches. Nothing was committed, and nothing ever will be
    /// under this writer.
    #[error("the writer was fenced")]
    Fenced,
    /// An id is of a day that was dropped, so it is unknown whether it was counted. Nothing was committed, and the same batch never will be.
    #[error("the batch has an event_id of a day whose events are no longer kept")]
    Expired,
    /// Nothing was committed; a retry may succeed.
    #[error("the store refused the batch")]
    Refused(#[source] Cause),
    /// The answer was lost: the batch may be committed, or may still be committed a little later.
    #[error("the outcome of the commit is unknown")]
    Unknown(#[source] Cause),
}

/// The events that a lane commits together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The writer of the lane.
    pub writer: WriterId,
    /// Sequence number of the first event; the others follow without gaps.
    pub first_seq: Seq,
    /// The events; their ids are distinct.
    pub events: Arc<Vec<Event>>,
    /// How many partitions the topic had. Stored with the batch, so that a replay goes to the same partitions.
    pub partitions: u32,
    /// The partition of events without a source.
    pub partition: Partition,
    /// How long the writer stays open unless its lease is renewed.
    pub lease: Duration,
}

impl Batch {
    /// Sequence number of the last event.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.first_seq + seq_offset(self.events.len()) - 1
    }

    /// The partition of `event`: that of its source or, without a source, that of the batch.
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
    /// Ids that were in the store before. They got no row and are not published.
    pub known: HashSet<Uuid>,
}

/// One commit that may not be published yet.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    /// The batch; its `events` include those that were in the store before.
    pub batch: Batch,
    /// When it was committed, and which of its events were in the store before.
    pub committed: Committed,
    /// The span that it was committed or is published in, if it is traced. Not stored: a row that is read from the outbox has none.
    pub trace: Option<TraceContext>,
}

impl OutboxRow {
    /// The events to publish, with their sequence numbers and partitions, in order.
    pub fn records(&self) -> impl Iterator<Item = (Seq, Partition, &Event)> {
        let new = |event: &Event| self.committed.known.is_empty() || !self.committed.known.contains(&event.id);
        (self.batch.first_seq..)
            .zip(self.batch.events.iter())
            .filter(move |(_, event)| new(event))
            .map(|(seq, event)| (seq, self.batch.partition_of(event), event))
    }
}

/// Writes events. The contract suites check what is guaranteed here.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Opens a writer whose id was never used before, not even by a store of which this one is an older copy.
    async fn open_writer(&self, lease: Duration) -> Result<WriterId, StoreError>;

    /// In one atomic step, and only while the writer is open and the batch follows its last one without a gap: inserts the events whose
    /// ids are new, adds them to the writer's total and to the rollups, adds the batch to the outbox, moves `last_seq` and renews the lease.
    async fn commit(&self, batch: &Batch) -> Result<Committed, CommitError>;

    /// Renews the lease; false when the writer is closed, or its last number is not `last`: the store was restored to an earlier time, and
    /// what it has in the outbox again is relayed once the lease has ended.
    async fn renew(&self, writer: WriterId, last: Seq, lease: Duration) -> Result<bool, StoreError>;

    /// Closes the writer permanently, and returns its last sequence number. From then on no statement of this writer has any
    /// effect, not even one that is still in flight, so the answer says whether a commit with a lost answer succeeded.
    async fn close_writer(&self, writer: WriterId) -> Result<Seq, StoreError>;

    /// The stored events among `ids`.
    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Event>, StoreError>;
}

/// How far publishing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxWatermark {
    /// Store time, taken before the outbox was read.
    pub now: Millis,
    /// Commit time of the oldest row still in the outbox.
    pub oldest_unpublished: Option<Millis>,
}

impl OutboxWatermark {
    /// Every event acknowledged before this time is published.
    #[must_use]
    pub fn published_until(self) -> Millis {
        self.oldest_unpublished.map_or(self.now, |oldest| oldest.min(self.now))
    }
}

/// The commits that may not be published yet.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Rows of `writer` whose last sequence number is above `after`, in order, until they hold `limit` events.
    async fn unpublished(&self, writer: WriterId, after: Seq, limit: usize) -> Result<Vec<OutboxRow>, StoreError>;

    /// Deletes the rows of `writer` up to `seq`, which are published.
    async fn forget(&self, writer: WriterId, seq: Seq) -> Result<(), StoreError>;

    /// Closes the writers whose lease ran out. Then claims one closed writer that still has rows for the caller, for the time
    /// `lease`.
    async fn claim_orphan(&self, lease: Duration) -> Result<Option<WriterId>, StoreError>;

    /// How far publishing has come.
    async fn outbox_watermark(&self) -> Result<OutboxWatermark, StoreError>;

    /// The last committed sequence number of each of `writers`, also of those that were compacted. Writers that the store does not know
    /// are missing.
    async fn last_seqs(&self, writers: &[WriterId]) -> Result<LastSeqs, StoreError>;
}

/// One writer in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterTotal {
    /// The writer.
    pub writer: WriterId,
    /// Its last committed sequence number.
    pub last_seq: Seq,
}

/// The totals at one point in time, read consistently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Store time, taken before reading: every event acknowledged before it is included.
    pub at: Millis,
    /// Store time, taken after reading: every event that is included was committed by then.
    pub until: Millis,
    /// All events.
    pub total: i64,
    /// Events per minute, for the requested minutes.
    pub minutes: BTreeMap<Minute, i64>,
    /// All writers that may still appear in the log.
    pub writers: Vec<WriterTotal>,
}

/// Events whose rows were dropped. They stay counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedEvents {
    /// How many they are.
    pub count: i64,
    /// The end of the last minute that had one of them: later minutes are recounted from their rows alone. 0 if none was dropped.
    pub until: Millis,
}

/// Rows and totals, read consistently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recount {
    /// Rows, counted one by one.
    pub rows: i64,
    /// Events whose rows were dropped, as they were counted then.
    pub dropped: DroppedEvents,
    /// Sum of the writers' totals.
    pub total: i64,
    /// Sum of the per-minute counts.
    pub minutes_total: i64,
    /// Sum of the per-day counts.
    pub days_total: i64,
    /// Minutes in which rows and dropped events together differ from the per-minute counts; at most a hundred.
    pub differing_minutes: Vec<Minute>,
}

impl Recount {
    /// All events: those with rows, and those whose rows were dropped.
    #[must_use]
    pub fn events(&self) -> i64 {
        self.rows + self.dropped.count
    }
}

/// A number of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// How many they are.
    pub count: i64,
    /// Store time, taken before counting: every event acknowledged before it is included.
    pub as_of: Millis,
}

/// Why a range is not counted.
#[derive(Debug, thiserror::Error)]
pub enum RangeCountError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It starts or ends within a minute of which only the total is kept.
    #[error(
        "time_range starts or ends within a minute before {0} (milliseconds since the Unix epoch); from before that time, only counts of \
         whole minutes are kept, so round both bounds to whole minutes"
    )]
    EdgeDropped(Millis),
}

impl From<RangeCountError> for StoreError {
    fn from(error: RangeCountError) -> Self {
        match error {
            RangeCountError::Store(error) => error,
            dropped @ RangeCountError::EdgeDropped(_) => Self(dropped.into()),
        }
    }
}

/// Reads totals. They are exact at all times and cost a few small rows.
#[async_trait]
pub trait TotalsStore: Send + Sync {
    /// The number of events, in total or in a range. Every event acknowledged before the call is included.
    async fn count(&self, range: Option<TimeRange>) -> Result<Counted, RangeCountError>;

    /// Totals, writers, and the minutes that are not before `since` or were changed within the last `touched`.
    async fn snapshot(&self, since: Minute, touched: Duration) -> Result<Snapshot, StoreError>;

    /// Counts every row. Slow: it reads the whole table.
    async fn recount(&self) -> Result<Recount, StoreError>;

    /// Compacts writers that were closed longer than `age` ago, and have nothing in the outbox, into one. Returns their ids.
    async fn compact_writers(&self, age: Duration) -> Result<Vec<WriterId>, StoreError>;
}
