//! Invalidates cached statuses as events are counted. What a status is now stands in segments, and reading those for every event would cost
//! more than counting it: the next reader of the status does it, and caches it.

use std::{mem, sync::Arc};

use tokio::sync::Mutex;

use super::error::CountError;
use ping_core::{Millis, Minute, StatusRule};
use ping_ports::{StatusCache, StatusWatermark, chain};
use ping_segments::Changes;

/// The cache of statuses, and the rule that it caches counts for.
pub struct StatusProjection {
    /// The rule that gives a source its status.
    pub rule: StatusRule,
    /// The cache.
    pub cache: Arc<dyn StatusCache>,
}

/// Keeps the cache of statuses up to date. While the cache is unavailable nothing waits for it: readers then use the store.
/// Once it is back, the first call begins a new epoch, which makes readers ignore what the cache held before.
pub(super) struct StatusUpdater {
    statuses: StatusProjection,
    state: Mutex<State>,
}

struct State {
    /// The cache may hold counts that have changed since: begin a new epoch before anything else.
    stale: bool,
    /// The highest watermark that the cache had. A lower one shows that it was restored from a snapshot, in which counts are valid that
    /// were invalidated since.
    as_of: Millis,
}

impl StatusUpdater {
    pub(super) fn new(statuses: StatusProjection) -> Self {
        Self { statuses, state: Mutex::new(State { stale: true, as_of: 0 }) }
    }

    /// The sources in `changes` whose cached status changes.
    pub(super) fn sources(&self, changes: &Changes) -> Vec<Box<str>> {
        changes.sources(|kind| self.statuses.rule.counts_kind(kind))
    }

    /// Begins a new epoch: a previous processor may have counted events without invalidating their statuses.
    pub(super) async fn begin_epoch(&self) {
        self.state.lock().await.stale = true;
        self.update(&[], None).await;
    }

    /// Invalidates the `changed` sources, then advances the watermark; begins a new epoch first if an earlier update failed.
    pub(super) async fn update(&self, changed: &[Box<str>], watermark: Option<StatusWatermark>) {
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
            if !changed.is_empty() {
                cache.invalidate(changed).await?;
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
