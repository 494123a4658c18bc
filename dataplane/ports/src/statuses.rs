//! What the rule wants to know of many sources, close at hand.

use async_trait::async_trait;

use super::CacheError;
use ping_core::{Millis, Minute, Partition, StatusCounts};

/// Answers given before an epoch began may have missed something.
pub type Epoch = i64;

/// What is held of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedStatus {
    /// The epoch it is: to be passed back with what the store says instead.
    pub epoch: Epoch,
    /// What is known, and may be believed.
    pub counts: Option<StatusCounts>,
    /// Every event acknowledged before this time is in it. 0 when nothing is promised.
    pub as_of: Millis,
}

/// What whoever raises has raised so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWatermark {
    /// Every event acknowledged before this time …
    pub as_of: Millis,
    /// … and published to one of these partitions of the log is in what is held.
    pub on: Vec<Partition>,
    /// How many partitions the log has.
    pub partitions: u32,
}

/// What is known of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Who.
    pub source: Box<str>,
    /// What it did.
    pub counts: StatusCounts,
    /// Nothing can change what it is.
    pub last: bool,
}

/// A bounded cache of counts. It may forget anything at any time; what it holds only grows.
#[async_trait]
pub trait StatusCache: Send + Sync {
    /// What is held of `source`. What may still change is believed for a few minutes and within its epoch only; an epoch that
    /// somebody else begins may be seen some milliseconds later.
    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError>;

    /// Raises what is held to this. `epoch`: the one in which the store was asked; none: this one.
    async fn merge_max(&self, epoch: Option<Epoch>, now: Minute, all: &[StatusUpdate]) -> Result<(), CacheError>;

    /// Makes a promise about what is held and believed.
    async fn advance_watermark(&self, watermark: &StatusWatermark) -> Result<(), CacheError>;

    /// Begins an epoch: what may still change is not believed any more.
    async fn begin_epoch(&self) -> Result<(), CacheError>;
}

/// Minutes for which something that may still change is believed. What the processors count they raise at once, so this bounds
/// only the harm of what nobody thought of.
pub const CACHE_TTL_MINUTES: i64 = 10;
