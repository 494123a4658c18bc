//! The cache of statuses.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use ping_core::{Minute, Partition, Watermarks, partition_number};
use ping_ports::{
    Access, CACHE_TTL_MINUTES, CacheError, CacheMillis, CacheVersion, Cached, CachedStatus, Epoch, NodeHold,
    NodeStatuses, Renewal, Renewed, StatusCache, StatusTimes,
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

/// The holds of a node.
#[derive(Clone, Debug, Default)]
struct Holds {
    /// How often a hold began or ended.
    changes: i64,
    /// Until when each of them lasts.
    until: BTreeMap<Uuid, CacheMillis>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// 0 if everything is lost.
    epoch: Epoch,
    /// Until when the cache may be used.
    open_until: CacheMillis,
    /// Until when each owner has closed it.
    closed: BTreeMap<Uuid, CacheMillis>,
    leases: BTreeMap<Partition, CacheMillis>,
    watermarks: Watermarks,
    entries: HashMap<Node, Entry>,
    holds: HashMap<Node, Holds>,
}

impl State {
    fn version(&self, node: Node) -> CacheVersion {
        CacheVersion { epoch: self.epoch, changes: self.holds.get(&node).map_or(0, |holds| holds.changes) }
    }

    /// Until when the cache may be used at the time `now`.
    fn open_until(&self, partitions: u32, now: CacheMillis) -> CacheMillis {
        if self.closed.values().any(|until| *until > now) {
            return 0;
        }
        let lease = |partition| self.leases.get(&partition_number(partition)).copied().unwrap_or(0);
        (0..u64::from(partitions)).map(lease).min().unwrap_or(0)
    }
}

/// An in-process cache of statuses, empty at every start.
#[derive(Debug)]
pub struct MemoryStatuses {
    depth: u32,
    times: StatusTimes,
    started: Instant,
    state: Mutex<State>,
}

impl MemoryStatuses {
    /// A cache for the sources of nodes at `depth`, which is at most 20.
    #[must_use]
    pub fn new(depth: u32, times: StatusTimes) -> Self {
        let state = Mutex::new(State { epoch: 1, ..State::default() });
        Self { depth, times, started: Instant::now(), state }
    }

    /// Loses everything, like a server that restarts without its data.
    pub fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// A copy of what it holds now. Calling the result restores it.
    pub fn save(&self) -> impl FnOnce(&Self) + use<> {
        let saved = self.state.lock().clone();
        move |cache| *cache.state.lock() = saved
    }

    /// The epoch that statuses are cached in.
    pub fn epoch(&self) -> Epoch {
        self.state.lock().epoch
    }

    fn now(&self) -> CacheMillis {
        millis(self.started.elapsed())
    }
}

/// As a number of milliseconds, from 1: 0 means "never".
fn millis(time: Duration) -> CacheMillis {
    CacheMillis::try_from(time.as_millis()).unwrap_or(CacheMillis::MAX - 1) + 1
}

impl Default for MemoryStatuses {
    fn default() -> Self {
        Self::new(DEPTH, StatusTimes::default())
    }
}

#[async_trait]
impl StatusCache for MemoryStatuses {
    fn depth(&self) -> u32 {
        self.depth
    }

    fn times(&self) -> StatusTimes {
        self.times
    }

    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        let state = self.state.lock();
        let as_of = state.watermarks.lowest();
        if state.open_until <= self.now() {
            return Ok(CachedStatus { as_of, ..CachedStatus::default() });
        }
        let node = Node::of(source, self.depth);
        let valid = |entry: &&Entry| entry.epoch == state.epoch && entry.at > now.back(CACHE_TTL_MINUTES);
        Ok(match state.entries.get(&node).filter(valid) {
            Some(entry) => CachedStatus { version: None, status: entry.statuses.of(source), as_of },
            None => CachedStatus { version: Some(state.version(node)), status: Cached::Nothing, as_of },
        })
    }

    async fn versions(&self, epoch: Epoch, nodes: &[Node]) -> Result<Vec<CacheVersion>, CacheError> {
        let state = self.state.lock();
        Ok(nodes.iter().map(|node| CacheVersion { epoch, ..state.version(*node) }).collect())
    }

    async fn fill(
        &self,
        version: CacheVersion,
        now: Minute,
        node: Node,
        statuses: &NodeStatuses,
    ) -> Result<(), CacheError> {
        let (mut state, time) = (self.state.lock(), self.now());
        let is_held = state.holds.get(&node).is_some_and(|holds| holds.until.values().any(|until| *until > time));
        if version == state.version(node) && !is_held {
            state.entries.insert(node, Entry { statuses: statuses.clone(), epoch: version.epoch, at: now });
        }
        Ok(())
    }

    async fn hold(&self, id: Uuid, nodes: &[NodeHold]) -> Result<(), CacheError> {
        let (mut state, now) = (self.state.lock(), self.now());
        for NodeHold { node, unless } in nodes {
            let holds = state.holds.entry(*node).or_default();
            holds.changes += 1;
            holds.until.retain(|_, until| *until > now);
            holds.until.insert(id, now + millis(self.times.hold));
            let stays = |entry: &Entry| unless.iter().all(|condition| condition.is_met(&entry.statuses));
            if unless.is_empty() || !state.entries.get(node).is_some_and(stays) {
                state.entries.remove(node);
            }
        }
        Ok(())
    }

    async fn release(&self, id: Uuid, nodes: &[Node]) -> Result<(), CacheError> {
        let mut state = self.state.lock();
        for node in nodes {
            let holds = state.holds.entry(*node).or_default();
            holds.changes += 1;
            holds.until.remove(&id);
        }
        Ok(())
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, CacheError> {
        let (mut state, now) = (self.state.lock(), self.now());
        let lease = |partition| state.leases.get(partition).copied().unwrap_or(0);
        let is_older = state.epoch == 0 || state.epoch < renewal.epoch;
        if is_older || renewal.on.iter().any(|(partition, until)| lease(partition) < *until) {
            state.open_until = 0;
            return Ok(Renewed::Lost);
        }
        if state.epoch > renewal.epoch {
            return Ok(Renewed::LaterEpoch(state.epoch));
        }
        let until = renewal.from.map_or(0, |from| from + millis(self.times.lease));
        for partition in renewal.on.keys() {
            let lease = state.leases.entry(*partition).or_insert(0);
            *lease = until.max(*lease);
        }
        if let Some(as_of) = renewal.as_of {
            state.watermarks.advance(as_of, renewal.on.keys(), renewal.partitions);
        }
        state.closed.retain(|_, until| *until > now);
        if renewal.partitions > 0 {
            state.open_until = state.open_until(renewal.partitions, now);
        }
        Ok(Renewed::At(now))
    }

    async fn begin_epoch(&self, owner: Uuid, access: Access, known: Epoch) -> Result<Epoch, CacheError> {
        let (mut state, now) = (self.state.lock(), self.now());
        let closed_until = now + millis(self.times.hold);
        if state.epoch == 0 || state.epoch < known {
            // Perhaps holds were lost, too.
            state.closed.insert(Uuid::nil(), closed_until);
        }
        // Not by one: a cache that went back does not begin an epoch again that statuses were read in.
        state.epoch = state.epoch.max(known) + 1 + now;
        state.open_until = 0;
        match access {
            Access::Open => state.closed.remove(&owner),
            Access::Closed => state.closed.insert(owner, closed_until),
        };
        Ok(state.epoch)
    }
}
