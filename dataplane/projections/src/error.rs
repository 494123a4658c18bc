//! Why counting was interrupted.

use ping_core::Partition;
use ping_ports::{CacheError, LogError, StoreError};
use ping_segments::FormatError;

/// Why counting was interrupted. The processor starts a new session after a pause.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A segment of the views cannot be written or read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The log cannot be read from the projection's positions, even though the projection was rebuilt.
    #[error(
        "partitions {assigned:?} cannot be read from the projection's offsets after {rebuilds} rebuilds: either the topic \
         lacks one of these partitions, or other processors keep rebuilding at the same time"
    )]
    UnreadablePositions {
        /// The partitions assigned to this processor.
        assigned: Vec<Partition>,
        /// How many times it rebuilt the projection, or lost the race to do so.
        rebuilds: u32,
    },
}

impl CountError {
    /// Whether the cache had no memory left for a change.
    pub(super) fn is_cache_full(&self) -> bool {
        matches!(self, Self::Cache(CacheError::Full(_)))
    }
}
