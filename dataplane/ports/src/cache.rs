//! The cache of counters.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    advance::{Advance, Applied},
    causes::Cause,
};
use ping_core::{Generation, Marks, Millis, Minute, Positions, Token, WriterId};

/// Why the cache did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be reached or did not answer. A change may or may not have been made.
    #[error("the cache is unavailable")]
    Unavailable(#[source] Cause),
    /// It has no memory left for a change. It keeps what it has, or counts as empty if it had to stop half-way.
    #[error("the cache is full")]
    Full(#[source] Cause),
}

/// Counts to add, with the positions they start and end at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// The positions.
    pub advance: Advance,
    /// Events to add.
    pub total: i64,
    /// Events to add, per minute.
    pub minutes: BTreeMap<Minute, i64>,
    /// The current minute.
    pub now: Minute,
    /// A minute's count is kept for this many minutes, both after it was last changed and after the minute itself.
    pub window: i64,
}

/// Everything that the cache holds after a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSnapshot {
    /// The new generation, its offsets, and the marks as bases for all partitions.
    pub positions: Positions,
    /// All events.
    pub total: i64,
    /// Events per minute.
    pub minutes: BTreeMap<Minute, i64>,
    /// `minutes` has every minute from this one on.
    pub minutes_from: Minute,
    /// Every event acknowledged before this time is included.
    pub as_of: Millis,
    /// The current minute.
    pub now: Minute,
}

/// What the cache answers to a reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The generation that answers.
    pub generation: Generation,
    /// All events.
    pub total: i64,
    /// Sum over the requested minutes; 0 when none were requested.
    pub minutes_total: i64,
    /// Every minute from this one on is complete; `None` if the cache was filled by a version that does not say so.
    pub minutes_from: Option<Minute>,
    /// Every event acknowledged before this time is included.
    pub as_of: Millis,
    /// An audit found a difference, and the cache is not rebuilt yet.
    pub suspect: bool,
    /// When an audit last found this generation equal to the store; `None` before the first audit.
    pub last_audit: Option<Millis>,
}

/// All counters, as `HGETALL ping:counters` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// The generation they belong to.
    pub generation: Generation,
    /// All events.
    pub total: i64,
    /// Events per minute.
    pub minutes: BTreeMap<Minute, i64>,
    /// As of [`Reading::minutes_from`].
    pub minutes_from: Option<Minute>,
    /// Every event acknowledged before this time is included.
    pub as_of: Millis,
    /// The marks of all writers.
    pub marks: Marks,
}

/// Counters and positions that change together or not at all.
#[async_trait]
pub trait CounterCache: Send + Sync {
    /// The positions it has counted up to; `None` when the cache is empty.
    async fn positions(&self) -> Result<Option<Positions>, CacheError>;

    /// Applies `flush` atomically if generation and offsets are where it starts. Otherwise changes nothing.
    async fn apply(&self, flush: &Flush) -> Result<Applied, CacheError>;

    /// Replaces everything atomically, if the generation is still `seen`. False when it is not.
    async fn install(&self, seen: Option<&Generation>, snapshot: &CacheSnapshot) -> Result<bool, CacheError>;

    /// Total and the sum over `minutes` (half-open); `None` when the cache is empty.
    async fn read(&self, minutes: Option<(Minute, Minute)>) -> Result<Option<Reading>, CacheError>;

    /// Whether the event of each token is counted, in the order of `tokens`.
    async fn have_counted(&self, tokens: &[Token]) -> Result<Vec<bool>, CacheError>;

    /// All counters; `None` when the cache is empty.
    async fn counters(&self) -> Result<Option<CacheCounters>, CacheError>;

    /// Marks the generation as suspect, so that readers use the store until the next rebuild. Does nothing when the cache holds
    /// another generation.
    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CacheError>;

    /// Notes that an audit that ended at `at` found the generation equal to the store. Does nothing when the cache holds
    /// another generation.
    async fn audited(&self, generation: &Generation, at: Millis) -> Result<(), CacheError>;

    /// Drops the marks of writers that can never appear again.
    async fn forget_writers(&self, writers: &[WriterId]) -> Result<(), CacheError>;
}
