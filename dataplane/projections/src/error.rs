//! Why counting was interrupted.

use ping_core::{AheadOfStore, Offset, Partition};
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
    /// The store lacks an event that was counted or read.
    #[error("{0}: it was restored to an earlier time, or another program published the event")]
    AheadOfStore(AheadOfStore),
    /// The log ends before what was read from it.
    #[error("partition {partition} ends at offset {end}, but was read up to {next}: the topic was created again")]
    LogEndsEarlier {
        /// The partition.
        partition: Partition,
        /// The next offset to read.
        next: Offset,
        /// Where the partition ends now.
        end: Offset,
    },
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
    /// Whether the store lacks an event that was counted or read.
    pub(super) fn is_ahead_of_store(&self) -> bool {
        matches!(self, Self::AheadOfStore(_))
    }

    /// Whether the cache had no memory left for a change.
    pub(super) fn is_cache_full(&self) -> bool {
        matches!(self, Self::Cache(CacheError::Full(_)))
    }
}
