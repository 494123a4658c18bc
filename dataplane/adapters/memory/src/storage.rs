//! A store in memory occupies no storage.

use async_trait::async_trait;

use super::MemoryStore;
use ping_ports::{StorageReader, StorageSizes, StoreError};

#[async_trait]
impl StorageReader for MemoryStore {
    async fn storage_sizes(&self) -> Result<Option<StorageSizes>, StoreError> {
        Ok(None)
    }
}
