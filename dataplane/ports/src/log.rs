//! The log: it carries what happened, at least once and in order per writer.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Cause, OutboxRow};
use ping_core::{Event, Millis, Offset, Partition, Seq, WriterId};

/// The log could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the log is unavailable")]
pub struct LogError(#[source] pub Cause);

/// What a record says: one event, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Who committed it.
    pub writer: WriterId,
    /// Its number.
    pub seq: Seq,
    /// When it happened.
    pub timestamp_ms: Millis,
    /// Who reported it; empty when unnamed.
    pub source: Box<str>,
    /// What happened; empty means "ping".
    pub kind: Box<str>,
}

impl LogEvent {
    /// What `event` says in the log.
    #[must_use]
    pub fn of(writer: WriterId, seq: Seq, event: &Event) -> Self {
        Self { writer, seq, timestamp_ms: event.timestamp_ms, source: event.source.clone(), kind: event.kind.clone() }
    }
}

/// Why a record cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not an `Event` of `event.proto`.
    #[error("the value is not a ping.v1.Event")]
    Undecodable,
    /// An event that no server committed.
    #[error("the event has no writer and seq: it was not written by a ping server, so the store does not know it")]
    Foreign,
}

/// One record of the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it was read.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// What it says, or why it can't be counted.
    pub body: Result<LogEvent, (Malformed, Vec<u8>)>,
}

/// The part of a partition that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Oldest offset kept.
    pub low: Offset,
    /// Offset of the next record to come.
    pub end: Offset,
}

/// A record set aside.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Where it was read.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Why.
    pub reason: Malformed,
    /// The value as it was.
    pub value: Vec<u8>,
}

/// What a source has for its processor.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// These partitions are ours now, all of them; nothing comes until `start`.
    Assigned(Vec<Partition>),
    /// We have no partitions now.
    Revoked,
    /// Records, in order per partition.
    Records(Vec<Record>),
}

/// Publishing.
#[async_trait]
pub trait LogProducer: Send + Sync {
    /// Appends every event of `rows` to its partition, in order and without gaps, and returns when all are durable. After an
    /// error any prefix per partition may have been appended, now or a little later.
    async fn publish(&self, rows: Vec<OutboxRow>) -> Result<(), LogError>;

    /// How many partitions the topic has.
    async fn partitions(&self) -> Result<u32, LogError>;

    /// Sets records aside where somebody can look at them.
    async fn dead_letter(&self, letters: Vec<DeadLetter>) -> Result<(), LogError>;
}

/// Reading where the log begins and ends.
#[async_trait]
pub trait LogBounds: Send + Sync {
    /// Of every partition of the topic. Everything published before the call is below `end`.
    async fn bounds(&self) -> Result<BTreeMap<Partition, Bounds>, LogError>;
}

/// Reading records as a member of a group.
#[async_trait]
pub trait LogConsumer: Send {
    /// The next thing to know. Safe to drop while waiting: nothing is lost.
    async fn next(&mut self) -> Result<ConsumerEvent, LogError>;

    /// Reads the assigned partitions from these offsets on; records fetched before are gone.
    async fn start(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), LogError>;

    /// Tells the log how far we are: for lag dashboards, and never believed.
    fn commit(&self, offsets: &BTreeMap<Partition, Offset>);
}
