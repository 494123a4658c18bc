//! The cache of statuses. The sources of a node of the tree are cached together: those whose status is decided are listed, and one that is
//! not listed is unknown. So a source costs nothing until its status is decided, and the cache is not written for every event.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::cache::CacheError;
use ping_core::{KindCounts, Millis, Minute, Partition, StatusCounts, StatusRule, Verdict};
use ping_segments::Node;

/// Statuses cached before an epoch began may be out of date.
pub type Epoch = i64;

/// A time in milliseconds of the cache's clock.
pub type CacheMillis = i64;

/// How long what processors write is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusTimes {
    /// A lease. A processor that cannot reach the cache waits this long, once, before it changes statuses that may be cached.
    pub lease: Duration,
    /// A hold. By then, the checkpoint of a processor that was lost has taken effect or never will.
    pub hold: Duration,
}

impl Default for StatusTimes {
    fn default() -> Self {
        Self { lease: Duration::from_secs(5), hold: Duration::from_secs(20) }
    }
}

/// When the cache answered. Statuses that are read from the store afterwards may be cached, unless the cache changed its epoch, or the node
/// was held, in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheVersion {
    /// The epoch.
    pub epoch: Epoch,
    /// How often a hold of the node began or ended.
    pub changes: i64,
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
    /// If the node is not cached, but may be: pass it to [`StatusCache::fill`] with what the store has.
    pub version: Option<CacheVersion>,
    /// What it says.
    pub status: Cached,
    /// Every event acknowledged before this time is included; 0 when there is no watermark yet.
    pub as_of: Millis,
}

/// What a processor tells the cache about its partitions of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// The latest epoch that this processor knows of.
    pub epoch: Epoch,
    /// The partitions, each with the time until which this processor has renewed its lease; 0 if it has not.
    pub on: BTreeMap<Partition, CacheMillis>,
    /// How many partitions the log has; 0 if that is not known.
    pub partitions: u32,
    /// The time at which the cache answered the last renewal. The leases are renewed from then on, so that a late command renews none.
    pub from: Option<CacheMillis>,
    /// Every event acknowledged before this time, and published to one of the partitions, is included in the cached statuses.
    pub as_of: Option<Millis>,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It was noted at this time.
    At(CacheMillis),
    /// Nothing was changed: another processor has begun this epoch. Perhaps the cache went back before, so first hold what still runs.
    LaterEpoch(Epoch),
    /// Nothing was changed, but the cache is not used until an epoch begins: it lacks what was written before, and so perhaps holds.
    Lost,
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
    /// It is negative, with these counts.
    Negative(StatusCounts),
    /// It is positive, with these counts.
    Positive(StatusCounts),
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
            Verdict::Negative => Some(Listed::Negative(counts)),
            Verdict::Positive => Some(Listed::Positive(counts)),
        };
        let mut listed = sources.iter().filter_map(|(source, kinds)| Some((source.clone(), list(rule.counts(kinds))?)));
        Self { listed: listed.by_ref().take(MAX_LISTED).collect(), complete: listed.next().is_none() }
    }

    /// What they say about `source`.
    #[must_use]
    pub fn of(&self, source: &str) -> Cached {
        match self.listed.get(source) {
            Some(Listed::Negative(counts) | Listed::Positive(counts)) => Cached::Decided(*counts),
            None if self.complete => Cached::Unknown,
            Some(Listed::Near) | None => Cached::Nothing,
        }
    }
}

/// A node to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHold {
    /// The node.
    pub node: Node,
    /// Its cached statuses stay if there are such conditions and the cache meets all of them: the checkpoint then changes none of these
    /// statuses. Otherwise they are dropped.
    pub unless: Vec<Unless>,
}

impl NodeHold {
    /// A hold that drops the statuses of `node` in any case.
    #[must_use]
    pub fn dropping(node: Node) -> Self {
        Self { node, unless: Vec::new() }
    }
}

/// What a cached status must be so that the events of a checkpoint do not change it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unless {
    /// This source is negative: it has further negative events.
    Negative(Box<str>),
    /// This source is negative or positive: it has further positive events.
    Decided(Box<str>),
}

impl Unless {
    /// Whether `statuses` meet the condition.
    #[must_use]
    pub fn is_met(&self, statuses: &NodeStatuses) -> bool {
        let (Self::Negative(source) | Self::Decided(source)) = self;
        match statuses.listed.get(source) {
            Some(Listed::Negative(_)) => true,
            Some(Listed::Positive(_)) => matches!(self, Self::Decided(_)),
            Some(Listed::Near) | None => false,
        }
    }
}

/// A bounded cache of statuses. It may drop any node at any time.
///
/// It is used only while the lease of every partition is in force, so that a processor that cannot reach it only has to wait. A node may
/// have several holds.
#[async_trait]
pub trait StatusCache: Send + Sync {
    /// The depth of the nodes whose sources are cached together.
    fn depth(&self) -> u32;

    /// How long leases and holds are in force.
    fn times(&self) -> StatusTimes;

    /// The cached status of `source`. Valid for [`CACHE_TTL_MINUTES`] and within its epoch only.
    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError>;

    /// The versions of `nodes`, if the cache is in `epoch`: pass each to [`fill`](Self::fill) with what the store has.
    async fn versions(&self, epoch: Epoch, nodes: &[Node]) -> Result<Vec<CacheVersion>, CacheError>;

    /// Caches the statuses of the sources of `node`. `version` is that of the answer after which they were read from the store; without
    /// effect if the node is held, or was since.
    async fn fill(
        &self,
        version: CacheVersion,
        now: Minute,
        node: Node,
        statuses: &NodeStatuses,
    ) -> Result<(), CacheError>;

    /// Begins the hold `id` of `nodes`: drops the statuses of their sources, because the store may soon have others, and caches none until
    /// the hold is released or expires. Keeps those that meet the conditions of their [`NodeHold`]. Repeating it prolongs it.
    async fn hold(&self, id: Uuid, nodes: &[NodeHold]) -> Result<(), CacheError>;

    /// Ends the hold `id`, and refuses statuses that were read before.
    async fn release(&self, id: Uuid, nodes: &[Node]) -> Result<(), CacheError>;

    /// Renews leases and advances the watermark of the cached statuses, if the cache is in the epoch of the renewal.
    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, CacheError>;

    /// Begins an epoch later than `known`, and returns it: cached statuses are no longer valid. The cache is used from the next renewal on,
    /// unless `owner` or another processor has closed it, or it is in an earlier epoch than `known`: then it went back, and is closed for the
    /// time of a hold.
    async fn begin_epoch(&self, owner: Uuid, access: Access, known: Epoch) -> Result<Epoch, CacheError>;
}

/// Whether the cache may be used in the epoch that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may, if no other processor has closed it. This one opens it again.
    Open,
    /// It may not, until its owner opens it or the time of a hold has passed: all statuses may change, or holds may have been lost.
    Closed,
}

/// How many minutes cached statuses are valid. Processors invalidate them as they count, so this only limits the damage of a bug.
pub const CACHE_TTL_MINUTES: i64 = 10;

/// How many sources of a node are listed at most.
pub const MAX_LISTED: usize = 128;
