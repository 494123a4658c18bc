//! Invalidates cached statuses when they may have changed. What a status is now stands in segments, and reading those for every event would
//! cost more than counting it: the next reader of a status does it, and caches it.
//!
//! A cached status takes the margin of a threshold before it changes ([`StatusRule::is_near`]). So it is enough to count the events of all
//! sources that are cached together, and to invalidate these after every [`Threshold::invalidation_interval`] events.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use parking_lot::Mutex as SyncMutex;
use tokio::sync::Mutex;

use super::error::CountError;
use ping_core::{Millis, Minute, StatusRule, Threshold};
use ping_ports::{StatusCache, StatusWatermark, chain};
use ping_segments::{Changes, Node};

/// The cache of statuses, and the rule that it caches them for.
pub struct StatusProjection {
    /// The rule that gives a source its status.
    pub rule: StatusRule,
    /// The cache.
    pub cache: Arc<dyn StatusCache>,
}

/// What an event means for the statuses that are cached.
#[derive(Clone, Copy, Debug)]
enum Effect {
    None,
    /// They may change after this many events.
    Interval(u32),
    /// They may have changed.
    Invalidate,
}

/// Events counted per node, for one threshold.
type NodeCounts = HashMap<Node, u32>;

/// Keeps the cache of statuses up to date. While the cache is unavailable nothing waits for it: readers then use the store.
/// Once it is back, the first call begins a new epoch, which makes readers ignore what the cache held before.
pub(super) struct StatusUpdater {
    statuses: StatusProjection,
    /// The events of the negative and of the positive kind, each modulo its interval.
    counted: SyncMutex<[NodeCounts; 2]>,
    state: Mutex<State>,
}

struct State {
    /// The cache may hold statuses that have changed since: begin a new epoch before anything else.
    stale: bool,
    /// The highest watermark that the cache had. A lower one shows that it was restored from a snapshot, in which statuses are valid that
    /// were invalidated since.
    as_of: Millis,
}

impl StatusUpdater {
    pub(super) fn new(statuses: StatusProjection) -> Self {
        Self { statuses, counted: SyncMutex::default(), state: Mutex::new(State { stale: true, as_of: 0 }) }
    }

    /// The nodes whose statuses may change with `changes`. Counts their events.
    pub(super) fn count(&self, changes: &Changes) -> Vec<Node> {
        let StatusProjection { rule, cache } = &self.statuses;
        let kinds = changes.kinds();
        let effect = |threshold: &Threshold, kind: &str| match threshold.invalidation_interval() {
            _ if *threshold.kind != *kind => Effect::None,
            1 => Effect::Invalidate,
            // A threshold is at most 1,000,000,000.
            interval => Effect::Interval(interval as u32),
        };
        let effects: Vec<_> = kinds
            .into_iter()
            .map(|kind| match rule.is_revocation(kind) {
                true => [Effect::Invalidate, Effect::None],
                false => [effect(&rule.negative_when, kind), effect(&rule.positive_when, kind)],
            })
            .collect();
        let (depth, mut counted, mut invalid) = (cache.depth(), self.counted.lock(), BTreeSet::new());
        for (source, kind) in changes.events() {
            let effects = effects[kind];
            if matches!(effects, [Effect::None, Effect::None]) {
                continue;
            }
            let node = Node::of(source, depth);
            for (effect, counted) in effects.into_iter().zip(&mut *counted) {
                if is_reached(effect, node, counted) {
                    invalid.insert(node);
                }
            }
        }
        invalid.into_iter().collect()
    }

    /// Begins a new epoch: a previous processor may have counted events without invalidating their statuses.
    pub(super) async fn begin_epoch(&self) {
        self.state.lock().await.stale = true;
        self.update(&[], None).await;
    }

    /// Invalidates `nodes`, then advances the watermark; begins a new epoch first if an earlier update failed.
    pub(super) async fn update(&self, nodes: &[Node], watermark: Option<StatusWatermark>) {
        let mut state = self.state.lock().await;
        let cache = &self.statuses.cache;
        let update = async {
            // Stays set until everything is done, also when this future is dropped half-way.
            let mut stale = mem::replace(&mut state.stale, true);
            let as_of = cache.get("", Minute(0)).await?.as_of;
            if as_of < state.as_of {
                tracing::warn!(
                    as_of,
                    before = state.as_of,
                    "the cache of statuses went back; statuses are read from the store"
                );
                stale = true;
            }
            if stale {
                cache.begin_epoch().await?;
            }
            state.as_of = as_of;
            if !nodes.is_empty() {
                cache.invalidate(nodes).await?;
            }
            if let Some(watermark) = watermark {
                cache.advance_watermark(&watermark).await?;
            }
            state.stale = false;
            Ok::<_, CountError>(())
        };
        if let Err(error) = update.await {
            tracing::warn!(error = chain(&error), "status cache not updated; statuses are read from the store");
        }
    }
}

/// Counts an event of `node`. True if its statuses may change now.
fn is_reached(effect: Effect, node: Node, counted: &mut NodeCounts) -> bool {
    match effect {
        Effect::None => false,
        Effect::Invalidate => true,
        Effect::Interval(interval) => {
            let count = counted.entry(node).or_insert(0);
            *count = (*count + 1) % interval;
            *count == 0
        }
    }
}
