//! The cache of statuses.

use std::{cmp::Ordering, collections::HashMap};

use async_trait::async_trait;
use parking_lot::Mutex;

use ping_core::{Minute, StatusCounts, Watermarks, partition_of};
use ping_ports::{
    CACHE_TTL_MINUTES, CacheError, CacheVersion, CachedStatus, Epoch, StatusCache, StatusUpdate, StatusWatermark,
};

/// Maximum number of sources.
const CAPACITY: usize = 1_000_000;
/// Parts in which invalidations are counted.
const PARTS: u32 = 1_024;

#[derive(Clone, Copy, Debug)]
struct Entry {
    counts: StatusCounts,
    epoch: Epoch,
    at: Minute,
}

#[derive(Debug, Default)]
struct State {
    epoch: Epoch,
    watermarks: Watermarks,
    entries: HashMap<Box<str>, Entry>,
    /// Invalidations per part.
    invalidations: HashMap<i32, i64>,
}

impl State {
    fn version(&self, source: &str) -> CacheVersion {
        let invalidations = self.invalidations.get(&partition_of(source, PARTS)).copied().unwrap_or(0);
        CacheVersion { epoch: self.epoch, invalidations }
    }
}

/// An in-process cache of statuses, empty at every start. When it is full, an arbitrary entry makes room.
#[derive(Debug, Default)]
pub struct MemoryStatuses(Mutex<State>);

#[async_trait]
impl StatusCache for MemoryStatuses {
    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        let state = self.0.lock();
        let valid = |entry: &&Entry| entry.epoch == state.epoch && entry.at > now.back(CACHE_TTL_MINUTES);
        let counts = state.entries.get(source).filter(valid).map(|entry| entry.counts);
        Ok(CachedStatus { version: state.version(source), counts, as_of: state.watermarks.lowest() })
    }

    async fn merge_max(&self, version: CacheVersion, now: Minute, update: &StatusUpdate) -> Result<(), CacheError> {
        let mut state = self.0.lock();
        let StatusUpdate { source, counts, last: _ } = update;
        if version.invalidations != state.version(source).invalidations {
            return Ok(());
        }
        if state.entries.len() >= CAPACITY && !state.entries.contains_key(source) {
            let victim = state.entries.keys().next().cloned();
            victim.and_then(|victim| state.entries.remove(&victim));
        }
        let new = Entry { counts: *counts, epoch: version.epoch, at: now };
        let entry = state.entries.entry(source.clone()).or_insert(new);
        match entry.epoch.cmp(&new.epoch) {
            Ordering::Less => *entry = new,
            Ordering::Equal => *entry = Entry { counts: entry.counts.merge_max(new.counts), ..new },
            // They may be those of a store that has been restored since.
            Ordering::Greater => {}
        }
        Ok(())
    }

    async fn invalidate(&self, sources: &[Box<str>]) -> Result<(), CacheError> {
        let mut state = self.0.lock();
        for source in sources {
            *state.invalidations.entry(partition_of(source, PARTS)).or_insert(0) += 1;
            state.entries.remove(source);
        }
        Ok(())
    }

    async fn advance_watermark(&self, watermark: &StatusWatermark) -> Result<(), CacheError> {
        self.0.lock().watermarks.advance(watermark.as_of, &watermark.on, watermark.partitions);
        Ok(())
    }

    async fn begin_epoch(&self) -> Result<(), CacheError> {
        self.0.lock().epoch += 1;
        Ok(())
    }
}
