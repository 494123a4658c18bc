//! The cache of statuses.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use ping_core::{Minute, Watermarks};
use ping_ports::{
    CACHE_TTL_MINUTES, CacheError, CacheVersion, Cached, CachedStatus, Epoch, NodeStatuses, StatusCache,
    StatusWatermark,
};
use ping_segments::Node;

/// At most 8,192 nodes, each with a bounded number of sources.
const DEPTH: u32 = 13;

#[derive(Clone, Debug)]
struct Entry {
    statuses: NodeStatuses,
    epoch: Epoch,
    at: Minute,
}

#[derive(Debug, Default)]
struct State {
    epoch: Epoch,
    watermarks: Watermarks,
    entries: HashMap<Node, Entry>,
    invalidations: HashMap<Node, i64>,
}

impl State {
    fn version(&self, node: Node) -> CacheVersion {
        CacheVersion { epoch: self.epoch, invalidations: self.invalidations.get(&node).copied().unwrap_or(0) }
    }
}

/// An in-process cache of statuses, empty at every start.
#[derive(Debug)]
pub struct MemoryStatuses {
    depth: u32,
    state: Mutex<State>,
}

impl MemoryStatuses {
    /// A cache for the sources of nodes at `depth`, which is at most 20.
    #[must_use]
    pub fn new(depth: u32) -> Self {
        Self { depth, state: Mutex::default() }
    }
}

impl Default for MemoryStatuses {
    fn default() -> Self {
        Self::new(DEPTH)
    }
}

#[async_trait]
impl StatusCache for MemoryStatuses {
    fn depth(&self) -> u32 {
        self.depth
    }

    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        let state = self.state.lock();
        let node = Node::of(source, self.depth);
        let valid = |entry: &&Entry| entry.epoch == state.epoch && entry.at > now.back(CACHE_TTL_MINUTES);
        let entry = state.entries.get(&node).filter(valid);
        let status = entry.map_or(Cached::Nothing, |entry| entry.statuses.of(source));
        Ok(CachedStatus { version: state.version(node), status, as_of: state.watermarks.lowest() })
    }

    async fn fill(
        &self,
        version: CacheVersion,
        now: Minute,
        node: Node,
        statuses: &NodeStatuses,
    ) -> Result<(), CacheError> {
        let mut state = self.state.lock();
        if version == state.version(node) {
            state.entries.insert(node, Entry { statuses: statuses.clone(), epoch: version.epoch, at: now });
        }
        Ok(())
    }

    async fn invalidate(&self, nodes: &[Node]) -> Result<(), CacheError> {
        let mut state = self.state.lock();
        for node in nodes {
            *state.invalidations.entry(*node).or_insert(0) += 1;
            state.entries.remove(node);
        }
        Ok(())
    }

    async fn advance_watermark(&self, watermark: &StatusWatermark) -> Result<(), CacheError> {
        self.state.lock().watermarks.advance(watermark.as_of, &watermark.on, watermark.partitions);
        Ok(())
    }

    async fn begin_epoch(&self) -> Result<(), CacheError> {
        self.state.lock().epoch += 1;
        Ok(())
    }
}
