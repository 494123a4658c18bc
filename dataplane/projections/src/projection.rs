//! What a processor makes of the log, and where it keeps it.

use async_trait::async_trait;

use super::{CountError, audit::AuditOutcome};
use ping_core::{Generation, Positions};
use ping_ports::{Advance, Applied, LogEvent};

/// Sums over events, which merge in any order.
pub trait Sums: Default + Send + Sync {
    /// Adds one event; false when it changes nothing here.
    fn add(&mut self, event: &LogEvent) -> bool;
}

/// Somewhere that counts and positions change together or not at all: the cache of counters, the tables per source.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    /// What a flush adds.
    type Sums: Sums;

    /// One projection answers for the log as a whole: it is as fresh as can be, and sets aside what cannot be counted.
    const PRIMARY: bool;

    /// Where it stands; `None` when it is empty.
    async fn positions(&self) -> Result<Option<Positions>, CountError>;

    /// Adds and advances atomically, if it stands where `advance` starts, else changes nothing.
    async fn apply(&self, advance: Advance, sums: Self::Sums) -> Result<Applied, CountError>;

    /// Fills it from the store under a new generation, if it is still of `seen`. False: somebody else was faster, look again.
    async fn rebuild(&self, seen: Option<&Generation>) -> Result<bool, CountError>;

    /// Looks after it, every few seconds: compares it with the store where that is cheap, drops what is out of date.
    async fn audit(&self) -> Result<AuditOutcome, CountError>;

    /// Warns readers of a filling that is wrong.
    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CountError>;
}
