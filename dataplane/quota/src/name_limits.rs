//! Limits of names that hold for all callers, with or without an access policy: an attacker who invents names does not fill the disk with them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ping_ports::{SourceReader, chain};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio::time::sleep;

/// Pause between two estimates of the number of sources.
const INTERVAL: Duration = Duration::from_secs(60);
/// The same, once there are half as many as allowed.
const SHORT_INTERVAL: Duration = Duration::from_secs(5);

/// What all callers together may add. 0 sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameLimits {
    /// Sources in total, from which on no new one is admitted.
    pub sources: u64,
    /// Names of kinds that are new, per day.
    pub kind_names_per_day: u64,
}

/// The limits, and whether there are as many sources as allowed. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameLimitState {
    pub(crate) limits: NameLimits,
    is_reached: Arc<AtomicBool>,
}

impl NameLimitState {
    pub(crate) fn new(limits: NameLimits) -> Self {
        Self { limits, is_reached: Arc::default() }
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Relaxed)
    }
}

/// Estimates the number of sources again and again.
pub struct SourceLimitWatch {
    state: NameLimitState,
    reader: Arc<dyn SourceReader>,
    gauge: Gauge,
}

impl SourceLimitWatch {
    pub(crate) fn new(state: NameLimitState, reader: Arc<dyn SourceReader>, registry: &mut Registry) -> Self {
        let gauge = Gauge::default();
        let help = "Sources with events, estimated from a part of them if there are more than some ten thousand";
        registry.register("ping_quota_sources", help, gauge.clone());
        Self { state, reader, gauge }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        for sample in 0.. {
            let pause = match self.reader.estimated_sources(sample).await {
                Ok(sources) => self.set(sources),
                // If the store is unavailable, its health check reports it.
                Err(error) => {
                    tracing::debug!(error = chain(&error), "the number of sources is not known; retrying");
                    SHORT_INTERVAL
                }
            };
            sleep(pause).await;
        }
    }

    /// Applies the limit to the number of sources; returns when to estimate it again.
    fn set(&self, sources: i64) -> Duration {
        self.gauge.set(sources);
        let (sources, most) = (sources.unsigned_abs(), self.state.limits.sources);
        let is_reached = most > 0 && sources >= most;
        if self.state.is_reached.swap(is_reached, Ordering::Relaxed) != is_reached {
            let action = if is_reached { "new ones are refused" } else { "new ones are accepted again" };
            tracing::warn!(sources, most, "sources and --max-sources: {action}");
        }
        if most > 0 && sources >= most / 2 { SHORT_INTERVAL } else { INTERVAL }
    }
}

#[cfg(test)]
mod tests {
    use ping_memory::{MemoryStore, SystemClock};

    use super::*;

    #[test]
    fn new_sources_are_refused_from_the_limit_on() {
        let watch = |sources| {
            let state = NameLimitState::new(NameLimits { sources, kind_names_per_day: 0 });
            let reader = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
            SourceLimitWatch::new(state, reader, &mut Registry::default())
        };
        let limited = watch(100);
        let seen = |sources| (limited.set(sources), limited.state.is_reached());
        assert_eq!([seen(49), seen(50)], [(INTERVAL, false), (SHORT_INTERVAL, false)]);
        assert_eq!([seen(100), seen(99)], [(SHORT_INTERVAL, true), (SHORT_INTERVAL, false)]);
        assert_eq!(watch(0).set(i64::MAX), INTERVAL, "no limit");
    }
}
