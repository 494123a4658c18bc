//! The cache of statuses as a process sees it: calls fail, answers get lost.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ping_core::{KindCounts, Minute, SourceCounts, StatusCounts, StatusRule};
use ping_memory::MemoryStatuses;
use ping_ports::{
    Access, CacheError, CacheVersion, Cached, CachedStatus, Epoch, NodeHold, NodeStatuses, Renewal, Renewed,
    StatusCache, StatusTimes,
};
use ping_segments::Node;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{bugs::Bug, clients::SOURCES, rng::Host};

/// A hold lasts longer than a process may stall between holding nodes and writing its checkpoint.
pub const TIMES: StatusTimes = StatusTimes { lease: Duration::from_millis(1_000), hold: Duration::from_millis(3_000) };

fn unavailable() -> CacheError {
    CacheError::Unavailable("the cache of statuses is unavailable (simulated)".into())
}

/// Two failed events make a source negative. Sixteen succeeded ones make it positive: few enough to happen, and enough that not each of them
/// holds a node.
pub fn rule() -> StatusRule {
    StatusRule { negative_when: "failed=2".parse().unwrap(), positive_when: "succeeded=16".parse().unwrap() }
}

/// The rule of the processors.
pub fn rule_of_processors(bug: Option<Bug>) -> StatusRule {
    match bug {
        Some(Bug::HeldTooRarely) => StatusRule { positive_when: "succeeded=160".parse().unwrap(), ..rule() },
        _ => rule(),
    }
}

/// The sources that have statuses.
pub fn sources() -> impl Iterator<Item = String> {
    (0..SOURCES).map(|number| format!("source-{number}"))
}

pub struct FaultyStatuses {
    pub host: Host,
    pub inner: Arc<MemoryStatuses>,
}

#[async_trait]
impl StatusCache for FaultyStatuses {
    fn depth(&self) -> u32 {
        self.inner.depth()
    }

    fn times(&self) -> StatusTimes {
        match self.host.rng.bug {
            Some(Bug::LeaseNotAwaited) => StatusTimes { lease: Duration::from_millis(10), ..TIMES },
            _ => self.inner.times(),
        }
    }

    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        self.host.reach_cache(unavailable)?;
        self.host.call(unavailable, self.inner.get(source, now)).await
    }

    async fn versions(&self, epoch: Epoch, nodes: &[Node]) -> Result<Vec<CacheVersion>, CacheError> {
        self.host.reach_cache(unavailable)?;
        self.host.call(unavailable, self.inner.versions(epoch, nodes)).await
    }

    async fn fill(
        &self,
        version: CacheVersion,
        now: Minute,
        node: Node,
        statuses: &NodeStatuses,
    ) -> Result<(), CacheError> {
        let (inner, statuses, bug) = (Arc::clone(&self.inner), statuses.clone(), self.host.rng.bug);
        let delay = self.host.rng.millis(400);
        let fill = async move {
            let mut version = version;
            if bug == Some(Bug::OldStatusesCached) {
                // A slow server: the statuses have time to change.
                sleep(delay).await;
                let source = sources().find(|source| node.has(source)).unwrap_or_default();
                version = inner.get(&source, now).await?.version.unwrap_or(version);
            }
            inner.fill(version, now, node, &statuses).await
        };
        self.host.change(unavailable, fill).await
    }

    async fn hold(&self, id: Uuid, nodes: &[NodeHold]) -> Result<(), CacheError> {
        self.host.reach_cache(unavailable)?;
        let (inner, nodes, bug) = (Arc::clone(&self.inner), nodes.to_vec(), self.host.rng.bug);
        let hold = async move {
            match bug {
                Some(Bug::CrossingMissed | Bug::HoldNotTaken) => Ok(()),
                Some(Bug::FilledWhileHeld | Bug::ReleasedBeforeCommit) => {
                    let nodes: Vec<_> = nodes.into_iter().map(|hold| hold.node).collect();
                    drop_statuses(&inner, id, &nodes).await
                }
                Some(Bug::ConditionsNotCompared) => {
                    let dropping: Vec<_> = nodes.into_iter().filter(|hold| hold.unless.is_empty()).collect();
                    inner.hold(id, &dropping).await
                }
                _ => inner.hold(id, &nodes).await,
            }
        };
        self.host.change(unavailable, hold).await
    }

    async fn release(&self, id: Uuid, nodes: &[Node]) -> Result<(), CacheError> {
        self.host.reach_cache(unavailable)?;
        let (inner, nodes, bug) = (Arc::clone(&self.inner), nodes.to_vec(), self.host.rng.bug);
        let delay = self.host.rng.millis(400);
        let release = async move {
            match bug {
                Some(Bug::CrossingMissed) => Ok(()),
                Some(Bug::HoldNotTaken) => drop_statuses(&inner, id, &nodes).await,
                Some(Bug::FilledWhileHeld) => {
                    // Readers have time to see both what is cached and what is stored.
                    sleep(delay).await;
                    drop_statuses(&inner, id, &nodes).await
                }
                _ => inner.release(id, &nodes).await,
            }
        };
        self.host.change(unavailable, release).await
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, CacheError> {
        self.host.reach_cache(unavailable)?;
        let (inner, mut renewal, bug) = (Arc::clone(&self.inner), renewal.clone(), self.host.rng.bug);
        let renew = async move {
            if bug == Some(Bug::EpochsNotCompared) {
                renewal.epoch = inner.epoch();
            }
            inner.renew(&renewal).await
        };
        self.host.change(unavailable, renew).await
    }

    async fn begin_epoch(&self, owner: Uuid, access: Access, known: Epoch) -> Result<Epoch, CacheError> {
        self.host.reach_cache(unavailable)?;
        if self.host.rng.bug == Some(Bug::EpochNotBegun) {
            return Ok(self.inner.epoch());
        }
        let inner = Arc::clone(&self.inner);
        self.host.change(unavailable, async move { inner.begin_epoch(owner, access, known).await }).await
    }
}

async fn drop_statuses(cache: &MemoryStatuses, id: Uuid, nodes: &[Node]) -> Result<(), CacheError> {
    cache.hold(id, &nodes.iter().copied().map(NodeHold::dropping).collect::<Vec<_>>()).await?;
    cache.release(id, nodes).await
}

/// Compares the cached statuses with those that follow from the rows. Returns how many.
pub async fn check(cache: &MemoryStatuses, rows: &SourceCounts, now: Minute) -> Result<u64, String> {
    let (rule, mut compared) = (rule(), 0);
    for source in sources() {
        let cached = match cache.get(&source, now).await.unwrap().status {
            Cached::Nothing => continue,
            Cached::Unknown => StatusCounts::default(),
            Cached::Decided(counts) => counts,
        };
        let of_source = rows.kinds.iter().filter(|((of, _), _)| **of == *source);
        let kinds: KindCounts = of_source.map(|((_, kind), span)| (kind.clone(), span.count)).collect();
        let counts = rule.counts(&kinds);
        if rule.judge(cached) != rule.judge(counts) {
            return Err(format!("the cached status of {source} differs: rows {counts:?}, cache {cached:?}"));
        }
        compared += 1;
    }
    Ok(compared)
}
