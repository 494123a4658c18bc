//! The space that a store occupies.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::store::StoreError;

/// What occupies space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoragePart {
    /// Raw events.
    Events,
    /// Counts per millisecond.
    MillisecondCounts,
    /// Counts per minute and day.
    Rollups,
    /// Segments: the views per source.
    Segments,
    /// The rows behind `window_stats` and `daily_stats`.
    StatsRows,
    /// Commits that are not published yet, and which are.
    Outbox,
    /// Everything else in the database.
    Other,
    /// All of the above, in a store that does not know them apart.
    File,
}

impl StoragePart {
    /// Its label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::MillisecondCounts => "millisecond_counts",
            Self::Rollups => "rollups",
            Self::Segments => "segments",
            Self::StatsRows => "stats_rows",
            Self::Outbox => "outbox",
            Self::Other => "other",
            Self::File => "file",
        }
    }
}

/// The sizes of a store, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageSizes {
    /// Of each part, with its indexes.
    pub parts: BTreeMap<StoragePart, i64>,
    /// What the write-ahead log may need beside them, by the settings of the store.
    pub wal: i64,
}

impl StorageSizes {
    /// Of all parts together.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.parts.values().sum()
    }
}

/// Measures a store.
#[async_trait]
pub trait StorageReader: Send + Sync {
    /// Its sizes; `None` if it is in memory. It takes about as long as listing the files of the database.
    async fn storage_sizes(&self) -> Result<Option<StorageSizes>, StoreError>;
}
