//! Holds the cached statuses that a checkpoint may change. What a status is now stands in segments, and reading those for every event would
//! cost more than counting it: the next reader of a status does it, and caches it.
//!
//! A checkpoint is written between a hold of the nodes whose statuses it may change, and their release. Meanwhile all readers of these
//! statuses read the store. If the cache cannot be reached, the checkpoint waits until the cache is no longer used, because no lease has been
//! renewed; later ones do not wait. What happens to the cache is decided in [`StatusState`].

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    pin, select,
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use super::{
    crossings::{CrossingCounts, Crossings},
    status_state::StatusState,
};
use ping_core::{Positions, StatusRule};
use ping_ports::{Access, Advance, CacheError, NodeHold, Renewed, StatusCache, chain};
use ping_segments::Changes;

/// Pause between two attempts to reach the cache, while a checkpoint waits for it.
const RETRY: Duration = Duration::from_millis(50);

/// The cache of statuses, and the rule that it caches them for.
pub struct StatusProjection {
    /// The rule that gives a source its status.
    pub rule: StatusRule,
    /// The cache.
    pub cache: Arc<dyn StatusCache>,
}

/// Keeps the cache of statuses correct.
pub(super) struct StatusUpdater {
    statuses: StatusProjection,
    owner: Uuid,
    counts: CrossingCounts,
    state: Mutex<StatusState>,
}

impl StatusUpdater {
    pub(super) fn new(statuses: StatusProjection) -> Self {
        let state = Mutex::new(StatusState::new(statuses.cache.times(), Instant::now()));
        Self { statuses, owner: Uuid::now_v7(), counts: CrossingCounts::default(), state }
    }

    /// The statuses that may change with `changes`. Counts their events.
    pub(super) fn count(&self, changes: &Changes) -> Crossings {
        self.counts.count(&self.statuses.rule, self.statuses.cache.depth(), changes)
    }

    /// A session begins at `positions`: begins a new epoch, because a previous processor may have counted events that this one does not
    /// know of. While the cache is unavailable, the first checkpoint does it.
    pub(super) async fn begin_session(&self, positions: Option<&Positions>) {
        let mut state = self.state.lock().await;
        state.begin_session(Instant::now());
        if let Some(positions) = positions {
            state.settle(&positions.generation, &positions.offsets);
        }
        self.try_update(&mut state).await;
    }

    /// Does `checkpoint`, which takes the step `advance` and may change `crossings`.
    pub(super) async fn while_held<T, E>(
        &self,
        advance: &Advance,
        crossings: Crossings,
        checkpoint: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Crossings { nodes, are_counted } = crossings;
        // Until its outcome is known, also if this future is dropped.
        let id = self.state.lock().await.begin(advance, nodes.clone(), Instant::now());
        if are_counted {
            self.wait_until_held(Some((id, &nodes))).await;
        }
        let result = self.keep(Some((id, &nodes)), checkpoint).await;
        if result.is_ok() {
            self.state.lock().await.end(id);
        }
        result
    }

    /// Does `rebuild`, which may change all statuses.
    pub(super) async fn while_closed<T, E>(&self, rebuild: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let id = Uuid::now_v7();
        self.state.lock().await.begin_rebuild(id);
        self.wait_until_held(None).await;
        let result = self.keep_leases(rebuild).await;
        if result.is_ok() {
            let mut state = self.state.lock().await;
            state.end_rebuild();
            if let Err(error) = self.begin_epoch(&mut state, id, Access::Open).await {
                tracing::debug!(error = chain(&error), "the cache of statuses stays closed for some seconds");
            }
        }
        result
    }

    /// After a checkpoint took effect: releases what it held, advances the watermark and renews the leases.
    pub(super) async fn finish(&self, advance: &Advance) {
        let mut state = self.state.lock().await;
        state.settle(&advance.generation, &advance.to);
        state.note(advance);
        self.try_update(&mut state).await;
    }

    /// Renews the leases, and releases what is settled.
    pub(super) async fn renew(&self) {
        self.try_update(&mut *self.state.lock().await).await;
    }

    /// Does `work` without losing the leases.
    pub(super) async fn keep_leases<T>(&self, work: impl Future<Output = T>) -> T {
        self.keep(None, work).await
    }

    /// Does `work` without losing the leases, nor its hold.
    async fn keep<T>(&self, hold: Option<(Uuid, &[NodeHold])>, work: impl Future<Output = T>) -> T {
        pin!(work);
        let pause = self.statuses.cache.times().lease / 5;
        loop {
            let prolonged = async {
                sleep(pause).await;
                self.prolong(hold).await;
            };
            select! {
                biased;
                result = &mut work => return result,
                () = prolonged => {}
            }
        }
    }

    /// Returns when nodes are held, or when no cached status is used any more because the cache could not be reached.
    async fn wait_until_held(&self, hold: Option<(Uuid, &[NodeHold])>) {
        loop {
            let mut state = self.state.lock().await;
            let held = async {
                self.ready(&mut state).await?;
                self.hold(hold).await
            };
            let Err(error) = held.await else { return };
            let lapses = state.lapses();
            if Instant::now() >= lapses {
                state.give_up();
                tracing::warn!(error = chain(&error), "status cache not reached; servers do not use it meanwhile");
                return;
            }
            drop(state);
            sleep_until(lapses.min(Instant::now() + RETRY)).await;
        }
    }

    async fn hold(&self, hold: Option<(Uuid, &[NodeHold])>) -> Result<(), CacheError> {
        match hold {
            Some((id, nodes)) if !nodes.is_empty() => self.statuses.cache.hold(id, nodes).await,
            _ => Ok(()),
        }
    }

    async fn prolong(&self, hold: Option<(Uuid, &[NodeHold])>) {
        let mut state = self.state.lock().await;
        if let Some((id, _)) = hold {
            state.see(id, Instant::now());
        }
        if let Err(error) = self.hold(hold).await {
            tracing::debug!(error = chain(&error), "holds of cached statuses are not prolonged");
        } else {
            self.try_update(&mut state).await;
        }
    }

    /// Begins an epoch if what is cached may be wrong.
    async fn ready(&self, state: &mut StatusState) -> Result<(), CacheError> {
        state.expire(Instant::now());
        if let Some(rebuild) = state.rebuild() {
            self.begin_epoch(state, rebuild, Access::Closed).await?;
        }
        if !state.is_stale(Instant::now()) {
            return Ok(());
        }
        if state.is_lost() {
            // It is opened again after all holds have expired.
            self.begin_epoch(state, Uuid::nil(), Access::Closed).await?;
        }
        self.hold_pending(state).await?;
        self.begin_epoch(state, self.owner, Access::Open).await?;
        state.epoch_begun(Instant::now());
        Ok(())
    }

    async fn begin_epoch(&self, state: &mut StatusState, owner: Uuid, access: Access) -> Result<(), CacheError> {
        let epoch = self.statuses.cache.begin_epoch(owner, access, state.epoch()).await?;
        state.see_epoch(epoch);
        Ok(())
    }

    /// Holds the nodes of checkpoints that run without a hold, or whose hold was lost.
    async fn hold_pending(&self, state: &StatusState) -> Result<(), CacheError> {
        for (id, nodes) in state.pending() {
            self.hold(Some((id, &nodes))).await?;
        }
        Ok(())
    }

    async fn try_update(&self, state: &mut StatusState) {
        if let Err(error) = self.update(state).await {
            tracing::warn!(error = chain(&error), "status cache not updated; statuses are read from the store");
        }
    }

    async fn update(&self, state: &mut StatusState) -> Result<(), CacheError> {
        self.ready(state).await?;
        let cache = &self.statuses.cache;
        for (id, nodes) in state.releasable() {
            if !nodes.is_empty() {
                cache.release(id, &nodes).await?;
            }
            state.released(id);
        }
        loop {
            let renewal = state.renewal();
            match cache.renew(&renewal).await? {
                Renewed::At(time) => {
                    state.renewed(&renewal, time, Instant::now());
                    return Ok(());
                }
                Renewed::LaterEpoch(epoch) => {
                    self.hold_pending(state).await?;
                    state.see_epoch(epoch);
                }
                Renewed::Lost => {
                    tracing::warn!("the cache of statuses went back; statuses are read from the store");
                    state.lose();
                    return Ok(());
                }
            }
        }
    }
}
