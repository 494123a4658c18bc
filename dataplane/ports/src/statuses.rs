//! The cache of statuses: per source, the counts that its status depends on.

use async_trait::async_trait;

use super::cache::CacheError;
use ping_core::{Millis, Minute, Partition, StatusCounts};

/// Counts cached before an epoch began may be out of date.
pub type Epoch = i64;

/// When the cache answered. Counts that are read from the store afterwards may be cached, unless the cache changed its epoch or invalidated
/// counts of the source in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheVersion {
    /// The epoch.
    pub epoch: Epoch,
    /// How often counts were invalidated in the part of the cache that the source is in.
    pub invalidations: i64,
}

/// What the cache answers for one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedStatus {
    /// If there are no counts, pass it to [`StatusCache::merge_max`] with those that the store has instead.
    pub version: CacheVersion,
    /// The counts, if they are cached and valid.
    pub counts: Option<StatusCounts>,
    /// Every event acknowledged before this time is included; 0 when there is no watermark yet.
    pub as_of: Millis,
}

/// The watermark of the cached counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWatermark {
    /// Every event acknowledged before this time …
    pub as_of: Millis,
    /// … and published to one of these partitions of the log is included in the cached counts.
    pub on: Vec<Partition>,
    /// How many partitions the log has.
    pub partitions: u32,
}

/// Counts of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// The source.
    pub source: Box<str>,
    /// Its counts.
    pub counts: StatusCounts,
    /// Only a revocation can change the status, so keep it longer than others when the cache is full.
    pub last: bool,
}

/// A bounded cache of counts. It may drop any entry at any time.
#[async_trait]
pub trait StatusCache: Send + Sync {
    /// The cached counts of `source`. They are valid for [`CACHE_TTL_MINUTES`] and within their epoch only. An epoch that another process begins may be noticed some milliseconds later.
    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError>;

    /// Raises the cached counts of a source to these, as [`StatusCounts::merge_max`] does; replaces those of an earlier epoch. `version` is
    /// that of the answer after which they were read from the store; without effect if they have been invalidated since.
    async fn merge_max(&self, version: CacheVersion, now: Minute, update: &StatusUpdate) -> Result<(), CacheError>;

    /// Drops the cached counts of `sources`, because the store has others, and refuses counts that were read before.
    async fn invalidate(&self, sources: &[Box<str>]) -> Result<(), CacheError>;

    /// Advances the watermark of the cached counts.
    async fn advance_watermark(&self, watermark: &StatusWatermark) -> Result<(), CacheError>;

    /// Begins an epoch: cached counts are no longer valid.
    async fn begin_epoch(&self) -> Result<(), CacheError>;
}

/// How many minutes cached counts are valid. Processors invalidate them as they count, so this
/// only limits the damage of a bug.
pub const CACHE_TTL_MINUTES: i64 = 10;
