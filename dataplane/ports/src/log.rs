//! The log: it delivers every event at least once, in order per writer and partition.

use std::collections::BTreeMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{causes::Cause, store::OutboxRow, traces::TraceContext};
use ping_core::{Event, Millis, Offset, Partition, Seq, WriterId};

/// The log cannot be reached or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the log is unavailable")]
pub struct LogError(#[source] pub Cause);

/// The content of a record: one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Its id; nil when the record has none.
    pub id: Uuid,
    /// The writer that committed it.
    pub writer: WriterId,
    /// Its sequence number.
    pub seq: Seq,
    /// When it happened.
    pub timestamp_ms: Millis,
    /// Who reported it; empty when the event has no source.
    pub source: Box<str>,
    /// What happened; empty means "ping".
    pub kind: Box<str>,
}

impl LogEvent {
    /// `event` as it is published.
    #[must_use]
    pub fn of(writer: WriterId, seq: Seq, event: &Event) -> Self {
        Self {
            id: event.id,
            writer,
            seq,
            timestamp_ms: event.timestamp_ms,
            source: event.source.clone(),
            kind: event.kind.clone(),
        }
    }
}

/// Why a record cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The value is not an `Event` of `event.proto`.
    #[error("the value is not a ping.v1.Event")]
    Undecodable,
    /// The event was not committed by a server.
    #[error("the event has no writer and seq: it was not published by pingd, so it is not in the store")]
    Foreign,
}

/// One record of the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// The partition it was read from.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// The span that published it, if it carries that.
    pub trace: Option<TraceContext>,
    /// The event, or why the record cannot be counted, with its value.
    pub body: Result<LogEvent, (Malformed, Vec<u8>)>,
}

/// The offsets of a partition that can be read: `low <= offset < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest offset that is retained.
    pub low: Offset,
    /// The offset that the next record will get.
    pub end: Offset,
}

/// Why a record is not counted, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadContent {
    /// Its value, which cannot be counted.
    Malformed(Malformed, Vec<u8>),
    /// A phantom event: it is in the log, but not in the store.
    Phantom(LogEvent),
}

impl DeadContent {
    /// Why the record is not counted.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Malformed(reason, _) => reason.to_string(),
            Self::Phantom(_) => {
                "the store does not have this event: it was restored to an earlier time, or another program published \
                 the event"
                    .into()
            }
        }
    }
}

/// A record that is not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The partition it was read from.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Why it is not counted, and its content.
    pub content: DeadContent,
}

/// What a consumer reports to its processor.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// These partitions, and no others, are assigned to it now. No records follow until [`LogConsumer::start`].
    Assigned(Vec<Partition>),
    /// No partition is assigned to it now.
    Revoked,
    /// Records, in order per partition.
    Records(Vec<Record>),
}

/// Publishes to the log.
#[async_trait]
pub trait LogProducer: Send + Sync {
    /// Appends every event of `rows` to its partition, in order and without gaps, and returns when all are durable. After an
    /// error any prefix per partition may have been appended, or may still be appended a little later. Of a row with a trace, at least the
    /// first record of each partition carries it.
    async fn publish(&self, rows: Vec<OutboxRow>) -> Result<(), LogError>;

    /// How many partitions the topic has.
    async fn partitions(&self) -> Result<u32, LogError>;

    /// Stores records that cannot be counted where they can be inspected.
    async fn dead_letter(&self, letters: Vec<DeadLetter>) -> Result<(), LogError>;
}

/// Knows where the log begins and ends, and reads single records.
#[async_trait]
pub trait LogBounds: Send + Sync {
    /// The bounds of every partition of the topic. Everything published before the call is below `end`.
    async fn bounds(&self) -> Result<BTreeMap<Partition, Bounds>, LogError>;

    /// The records at these offsets, at most one per partition. Fails if an offset is not in the log.
    async fn records_at(&self, offsets: &BTreeMap<Partition, Offset>) -> Result<Vec<Record>, LogError>;
}

/// Reads records as a member of a consumer group.
#[async_trait]
pub trait LogConsumer: Send {
    /// Waits for the next event. Cancel-safe: nothing is lost when the future is dropped.
    async fn next(&mut self) -> Result<ConsumerEvent, LogError>;

    /// Reads the assigned partitions from these offsets on, and drops the records that were fetched before.
    async fn start(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), LogError>;

    /// Commits offsets to the log, for lag dashboards only: sessions never start from them.
    fn commit(&self, offsets: &BTreeMap<Partition, Offset>);
}
