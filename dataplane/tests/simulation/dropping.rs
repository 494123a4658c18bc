//! Dropping events, which happens every second: a day of the fast clock.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ping_core::{Day, Millis, Retention, RetentionCutoffs};
use ping_ports::{Clock, EventCutoff, EventRetention, StoreError};
use ping_projections::{EventRetentionSettings, EventRetentionTask};
use prometheus_client::registry::Registry;

use crate::{
    bugs::Bug,
    store::{FaultyStore, unavailable},
};

/// A store that tells the time of the fast clock.
struct FastStore {
    store: FaultyStore,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl EventRetention for FastStore {
    async fn event_cutoff(&self) -> Result<EventCutoff, StoreError> {
        let cutoff = self.store.host.call(unavailable, self.store.inner.event_cutoff()).await?;
        Ok(EventCutoff { now: self.clock.now(), ..cutoff })
    }

    async fn move_cutoff(&self, first_day: Day, now: Millis) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.store.inner);
        self.store.host.change(unavailable, async move { inner.move_cutoff(first_day, now).await }).await
    }

    async fn prepare_days(&self, today: Day) -> Result<(), StoreError> {
        self.store.host.call(unavailable, self.store.inner.prepare_days(today)).await
    }

    async fn drop_expired(&self, cutoffs: RetentionCutoffs) -> Result<Option<u64>, StoreError> {
        let (inner, bug) = (Arc::clone(&self.store.inner), self.store.host.rng.bug);
        let drop = async move {
            let dropped = inner.drop_expired(cutoffs).await?;
            match bug {
                Some(Bug::DroppedIdsCommitted) => inner.commit_dropped_ids(),
                Some(Bug::BaseForgotten) => inner.forget_base(),
                _ => {}
            }
            Ok(dropped)
        };
        self.store.host.change(unavailable, drop).await
    }
}

/// A task that keeps the events of three days, which are three seconds.
pub fn dropping(store: FaultyStore, fast_clock: Arc<dyn Clock>) -> EventRetentionTask {
    let settings = EventRetentionSettings {
        days: Some(2),
        interval: Duration::from_millis(200),
        grace: Duration::from_secs(6 * 60 * 60),
    };
    // The views keep everything, by the clock that they are kept by.
    let views = Retention { windows: 10_000, days: None };
    let store = FastStore { store, clock: Arc::clone(&fast_clock) };
    EventRetentionTask::new(Arc::new(store), fast_clock, settings, views, &mut Registry::default())
}
