//! The size of the file.

use async_trait::async_trait;

use super::{SqliteStore, failed};
use ping_ports::{StoragePart, StorageReader, StorageSizes, StoreError};

/// Without its write-ahead log, which is copied to the file from 32 MiB on.
const SIZE: &str = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";

#[async_trait]
impl StorageReader for SqliteStore {
    async fn storage_sizes(&self) -> Result<Option<StorageSizes>, StoreError> {
        let bytes = sqlx::query_scalar(SIZE).fetch_one(&self.readers).await.map_err(failed)?;
        Ok(Some(StorageSizes { parts: [(StoragePart::File, bytes)].into(), wal: 0 }))
    }
}
