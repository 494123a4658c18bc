//! The cache: it counts what happened, once.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Advance, Applied, Cause};
use ping_core::{Generation, Marks, Millis, Minute, Positions, Token, WriterId};

/// The cache could not be asked, or did not answer: a change may have happened.
#[derive(Debug, thiserror::Error)]
#[error("the cache is unavailable")]
pub struct CacheError(#[source] pub Cause);

/// A delta of counters with the positions it starts and ends at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// From where to where.
    pub advance: Advance,
    /// Events to add.
    pub total: i64,
    /// Events to add, per minute.
    pub minutes: BTreeMap<Minute, i64>,
    /// The minute it is.
    pub now: Minute,
    /// How many minutes a minute's count is kept after it was last touched, and at least after it happened.
    pub window: i64,
}

/// A complete filling of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSnapshot {
    /// The new generation, its offsets, and the marks as bases.
    pub positions: Positions,
    /// All events.
    pub total: i64,
    /// Events per minute.
    pub minutes: BTreeMap<Minute, i64>,
    /// Everything acknowledged before this time is in.
    pub as_of: Millis,
    /// The minute it is.
    pub now: Minute,
}

/// What a reader gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// All events.
    pub total: i64,
    /// Sum over the minutes asked for; 0 when none were.
    pub minutes_total: i64,
    /// Everything acknowledged before this time is in.
    pub as_of: Millis,
    /// An audit found a difference that a rebuild has not put right yet.
    pub suspect: bool,
    /// When an audit last found this filling equal to the store; `None` before the first.
    pub last_audit: Option<Millis>,
}

/// The readable counters: what `HGETALL ping:counters` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// The filling they belong to.
    pub generation: Generation,
    /// All events.
    pub total: i64,
    /// Events per minute.
    pub minutes: BTreeMap<Minute, i64>,
    /// Everything acknowledged before this time is in.
    pub as_of: Millis,
    /// Marks of every writer.
    pub marks: Marks,
}

/// CacheCounters and positions that change together or not at all.
#[async_trait]
pub trait CounterCache: Send + Sync {
    /// What was counted; `None` when the cache is empty.
    async fn positions(&self) -> Result<Option<Positions>, CacheError>;

    /// Applies `flush` atomically if generation and offsets are as it says, else changes nothing.
    async fn apply(&self, flush: &Flush) -> Result<Applied, CacheError>;

    /// Replaces everything atomically, if the generation is still `seen`. False: it is not.
    async fn install(&self, seen: Option<&Generation>, image: &CacheSnapshot) -> Result<bool, CacheError>;

    /// Total and the sum over `minutes` (half-open); `None` when the cache is empty.
    async fn read(&self, minutes: Option<(Minute, Minute)>) -> Result<Option<Reading>, CacheError>;

    /// Whether the event of `token` is counted.
    async fn has_counted(&self, token: Token) -> Result<bool, CacheError>;

    /// All counters; `None` when the cache is empty.
    async fn counters(&self) -> Result<Option<CacheCounters>, CacheError>;

    /// Marks the filling as doubtful, so that readers go elsewhere until the next one.
    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CacheError>;

    /// Remembers that an audit, which ended at `at`, found the filling equal to the store; nothing if it is another by now.
    async fn audited(&self, generation: &Generation, at: Millis) -> Result<(), CacheError>;

    /// Drops the marks of writers that can never appear again.
    async fn forget_writers(&self, writers: &[WriterId]) -> Result<(), CacheError>;
}
