//! Whether the store has run out of disk space. Shared by all lanes.

use std::{error::Error, time::Duration};

use parking_lot::Mutex;
use ping_ports::{DiskFull, chain};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::Refusal;

/// After this time without a further failure, a store that answers has space again: commits show it at once, but there may be none.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// A database whose log has no space left restarts, or does not start. Its later errors do not say why, so this remembers it.
#[derive(Debug)]
pub(super) struct StoreFull {
    since: Mutex<Option<Instant>>,
    gauge: Gauge,
}

impl StoreFull {
    /// `gauge` is 1 while the store is full.
    pub(super) fn new(gauge: Gauge) -> Self {
        Self { since: Mutex::default(), gauge }
    }

    /// Remembers whether `error` says that the store is full; returns whether it does.
    pub(super) fn is_reported_by(&self, error: &(dyn Error + 'static)) -> bool {
        let is_full = DiskFull::causes(error);
        if is_full {
            *self.since.lock() = Some(Instant::now());
            self.gauge.set(1);
        }
        is_full
    }

    /// Why events are not recorded after `error`.
    pub(super) fn refusal(&self, error: &(dyn Error + 'static)) -> Refusal {
        match self.is_reported_by(error) || self.gauge.get() != 0 {
            true => Refusal::StoreFull(chain(error)),
            false => Refusal::Unavailable(chain(error)),
        }
    }

    /// A commit succeeded.
    pub(super) fn committed(&self) {
        if self.gauge.get() != 0 {
            *self.since.lock() = None;
            self.gauge.set(0);
        }
    }

    /// A lease was renewed, which takes no space.
    pub(super) fn answered(&self) {
        if self.since.lock().is_some_and(|since| since.elapsed() >= FORGOTTEN_AFTER) {
            self.committed();
        }
    }
}

#[cfg(test)]
mod tests {
    use ping_ports::StoreError;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_store_is_remembered_until_a_commit_or_a_quiet_minute() {
        let full = StoreFull::new(Gauge::default());
        let down = StoreError("connection refused".into());
        let no_space = StoreError(DiskFull("could not extend file".into()).into());
        assert!(matches!(full.refusal(&down), Refusal::Unavailable(_)));
        let refusal = full.refusal(&no_space);
        assert!(
            matches!(&refusal, Refusal::StoreFull(cause) if cause.ends_with("the disk is full: could not extend file")),
            "{refusal}"
        );
        assert!(matches!(full.refusal(&down), Refusal::StoreFull(_)), "it is down because it is full");
        full.committed();
        assert!(matches!(full.refusal(&down), Refusal::Unavailable(_)));
        full.refusal(&no_space);
        full.answered();
        assert_eq!(full.gauge.get(), 1);
        sleep(FORGOTTEN_AFTER).await;
        full.answered();
        assert_eq!(full.gauge.get(), 0);
    }
}
