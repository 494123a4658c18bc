//! The cache of statuses. The sources of a node of the tree are cached together: those whose status is decided are listed, and one that is
//! not listed is unknown. So a source costs nothing until its status is decided, and the cache is not written for every event.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::cache::CacheError;
use ping_core::{KindCounts, Millis, Minute, Partition, StatusCounts, StatusRule, Verdict};
use ping_segments::Node;

/// Statuses cached before an epoch began may be out of date.
pub type Epoch = i64;

/// When the cache answered. Statuses that are read from the store afterwards may be cached, unless the cache changed its epoch or
/// invalidated the node in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheVersion {
    /// The epoch.
    pub epoch: Epoch,
    /// How often the node was invalidated.
    pub invalidations: i64,
}

/// What the cache says about one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cached {
    /// Nothing: read the store.
    #[default]
    Nothing,
    /// Its status is unknown: it reached neither threshold.
    Unknown,
    /// Its status follows from these counts.
    Decided(StatusCounts),
}

/// What the cache answers for one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedStatus {
    /// If there is nothing, pass it to [`StatusCache::fill`] with what the store has instead. Meaningless otherwise.
    pub version: CacheVersion,
    /// What it says.
    pub status: Cached,
    /// Every event acknowledged before this time is included; 0 when there is no watermark yet.
    pub as_of: Millis,
}

/// The watermark of the cached statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWatermark {
    /// Every event acknowledged before this time …
    pub as_of: Millis,
    /// … and published to one of these partitions of the log is included in the cached statuses.
    pub on: Vec<Partition>,
    /// How many partitions the log has.
    pub partitions: u32,
}

/// The statuses of the sources of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatuses {
    /// At most [`MAX_LISTED`] of them.
    pub listed: BTreeMap<Box<str>, Listed>,
    /// Sources that are not listed are unknown. Otherwise some of them were left out.
    pub complete: bool,
}

/// A source that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Its status follows from these counts.
    Decided(StatusCounts),
    /// Its status may change before the node is invalidated: always read the store.
    Near,
}

impl NodeStatuses {
    /// The statuses of sources with these counts.
    #[must_use]
    pub fn new(rule: &StatusRule, sources: &BTreeMap<Box<str>, KindCounts>) -> Self {
        let list = |counts: StatusCounts| match rule.judge(counts) {
            _ if rule.is_near(counts) => Some(Listed::Near),
            Verdict::Unknown => None,
            Verdict::Negative | Verdict::Positive => Some(Listed::Decided(counts)),
        };
        let mut listed = sources.iter().filter_map(|(source, kinds)| Some((source.clone(), list(rule.counts(kinds))?)));
        Self { listed: listed.by_ref().take(MAX_LISTED).collect(), complete: listed.next().is_none() }
    }

    /// What they say about `source`.
    #[must_use]
    pub fn of(&self, source: &str) -> Cached {
        match self.listed.get(source) {
            Some(Listed::Decided(counts)) => Cached::Decided(*counts),
            None if self.complete => Cached::Unknown,
            Some(Listed::Near) | None => Cached::Nothing,
        }
    }
}

/// A bounded cache of statuses. It may drop any node at any time.
#[async_trait]
pub trait StatusCache: Send + Sync {
    /// The depth of the nodes whose sources are cached together.
    fn depth(&self) -> u32;

    /// The cached status of `source`. Valid for [`CACHE_TTL_MINUTES`] and within its epoch only. An epoch that another process begins may
    /// be noticed some milliseconds later.
    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError>;

    /// Caches the statuses of the sources of `node`. `version` is that of the answer after which they were read from the store; without
    /// effect if the node has been invalidated since.
    async fn fill(
        &self,
        version: CacheVersion,
        now: Minute,
        node: Node,
        statuses: &NodeStatuses,
    ) -> Result<(), CacheError>;

    /// Drops the statuses of the sources of `nodes`, because the store may have others, and refuses those that were read before.
    async fn invalidate(&self, nodes: &[Node]) -> Result<(), CacheError>;

    /// Advances the watermark of the cached statuses.
    async fn advance_watermark(&self, watermark: &StatusWatermark) -> Result<(), CacheError>;

    /// Begins an epoch: cached statuses are no longer valid.
    async fn begin_epoch(&self) -> Result<(), CacheError>;
}

/// How many minutes cached statuses are valid. Processors invalidate them as they count, so this only limits the damage of a bug.
pub const CACHE_TTL_MINUTES: i64 = 10;

/// How many sources of a node are listed at most.
pub const MAX_LISTED: usize = 128;
