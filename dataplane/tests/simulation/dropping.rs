//! Dropping events, which happens every second: a day of the fast clock.

use std::{sync::Arc, time::Duration};

use ping_core::Retention;
use ping_ports::Clock;
use ping_projections::{EventRetentionSettings, EventRetentionTask};
use prometheus_client::registry::Registry;

use crate::store::FaultyStore;

/// A task that keeps the events of three days, which are three seconds.
pub fn dropping(store: FaultyStore, fast_clock: Arc<dyn Clock>) -> EventRetentionTask {
    let settings = EventRetentionSettings {
        days: Some(2),
        interval: Duration::from_millis(200),
        grace: Duration::from_secs(6 * 60 * 60),
    };
    // The views keep everything, by the clock that they are kept by.
    let views = Retention { windows: 10_000, days: None };
    EventRetentionTask::new(Arc::new(store), fast_clock, settings, views, &mut Registry::default())
}
