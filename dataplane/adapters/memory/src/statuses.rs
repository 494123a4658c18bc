//! The cache of statuses.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use ping_core::{Minute, StatusCounts, Watermarks};
use ping_ports::{CACHE_TTL_MINUTES, CacheError, CachedStatus, Epoch, StatusCache, StatusUpdate, StatusWatermark};

/// Maximum number of sources.
const CAPACITY: usize = 1_000_000;

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
        Ok(CachedStatus { epoch: state.epoch, counts, as_of: state.watermarks.lowest() })
    }

    async fn merge_max(&self, epoch: Option<Epoch>, now: Minute, all: &[StatusUpdate]) -> Result<(), CacheError> {
        let mut state = self.0.lock();
        let epoch = epoch.unwrap_or(state.epoch);
        for StatusUpdate { source, counts, last: _ } in all {
            if state.entries.len() >= CAPACITY && !state.entries.contains_key(source) {
                let victim = state.entries.keys().next().cloned();
                victim.and_then(|victim| state.entries.remove(&victim));
            }
            let entry = state.entries.entry(source.clone()).or_insert(Entry { counts: *counts, epoch, at: now });
            entry.counts = entry.counts.merge_max(*counts);
            entry.epoch = entry.epoch.max(epoch);
            entry.at = now;
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
