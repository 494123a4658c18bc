//! What a processor derives from the log, and where it is stored.

use async_trait::async_trait;

use super::error::CountError;
use ping_core::{Generation, Positions};
use ping_ports::{Advance, Applied, DeadContent, Drift, LogEvent, TraceStep};

/// Sums over events, which merge in any order.
pub trait Sums: Default + Send + Sync {
    /// Adds one event.
    fn add(&mut self, event: &LogEvent);

    /// The memory that they occupy, in bytes.
    fn bytes(&self) -> usize;
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// The projection agrees with the store.
    Equal,
    /// Not compared: the projection is empty, too far behind, or has no audit.
    Unknown,
    /// A program of an earlier version wrote something without what an audit compares: only a rebuild makes this generation comparable.
    Outdated {
        /// The generation.
        generation: Generation,
    },
    /// The projection differs from the store.
    Drift {
        /// The generation that was compared.
        generation: Generation,
        /// The differences.
        drift: Drift,
    },
}

/// Stores counts together with the positions in the log that they include: both change together, or neither does. There are two
/// projections: the counters in the cache and the views per source in the store.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    /// What a flush adds.
    type Sums: Sums;

    /// The primary projection flushes as soon as it can. Any other collects larger flushes, and rests after each one for as long as the
    /// flush took.
    const PRIMARY: bool;

    /// What its flushes are called in traces.
    const STEP: TraceStep;

    /// Whether it sends such a record to the dead-letter topic. The primary projection sends malformed ones. It is rebuilt when the store
    /// has gone back, and then skips the phantoms that it had counted. The views go back with the store, and read all of them.
    #[must_use]
    fn sends(content: &DeadContent) -> bool {
        matches!(content, DeadContent::Malformed(..)) == Self::PRIMARY
    }

    /// The positions it has counted up to; `None` when it is empty.
    async fn positions(&self) -> Result<Option<Positions>, CountError>;

    /// Adds `sums` and moves the positions in one atomic step, if they are where `advance` starts. Otherwise changes nothing.
    async fn apply(&self, advance: Advance, sums: Self::Sums) -> Result<Applied, CountError>;

    /// Builds it from the store under a new generation, if its generation is still `seen`. False when it is not: another
    /// processor has rebuilt it.
    async fn rebuild(&self, seen: Option<&Generation>) -> Result<bool, CountError>;

    /// Periodic chores, run before each audit: compaction, retention, and whatever else keeps the projection up to date.
    async fn maintain(&self) -> Result<(), CountError>;

    /// Compares the projection with the store, where that is cheap.
    async fn audit(&self) -> Result<AuditOutcome, CountError>;

    /// Tells readers not to use `generation`, because it is wrong. Does nothing when it was replaced by another.
    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CountError>;
}
