//! What the last audit of the views found, for answers that must not wait for the store.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use ping_ports::{ViewAudit, ViewAuditState, chain};
use tokio::time::Instant;

/// How old the state may be before it is read again: open pages must not cause a statement per second, and a condition that becomes untrue is
/// reported within three.
const MAX_AGE: Duration = Duration::from_secs(2);

/// The state as it was read last. Asking for it starts to read it again if it is old, so the store is read only while someone asks.
#[derive(Clone)]
pub(super) struct ViewState {
    audit: Arc<dyn ViewAudit>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    state: ViewAuditState,
    /// When the last reading began; `None` before the first.
    read: Option<Instant>,
    reading: bool,
}

impl ViewState {
    pub(super) fn new(audit: Arc<dyn ViewAudit>) -> Self {
        Self { audit, known: Arc::default() }
    }

    /// The state, two seconds old at most if someone asks all the time.
    pub(super) fn current(&self) -> ViewAuditState {
        let mut known = self.known.lock();
        let is_old = known.read.is_none_or(|read| read.elapsed() >= MAX_AGE);
        if is_old && !known.reading {
            known.reading = true;
            known.read = Some(Instant::now());
            tokio::spawn(self.clone().read());
        }
        known.state
    }

    async fn read(self) {
        let state = self.audit.view_audit_state().await;
        let mut known = self.known.lock();
        known.reading = false;
        match state {
            Ok(state) => known.state = state,
            Err(error) => tracing::debug!(error = chain(&error), "the state of the views is not known; retrying"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ping_core::Retention;
    use ping_memory::{MemoryStore, SystemClock};
    use ping_ports::SourceViews;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_state_is_two_seconds_old_at_most() {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let state = ViewState::new(Arc::<MemoryStore>::clone(&store));
        let (new, cutoffs) = ("g".to_owned(), Retention::default().at(0));
        assert!(store.rebuild(None, &new, &BTreeMap::new(), cutoffs).await.unwrap());
        store.mark_views_suspect(&new).await.unwrap();
        assert!(!state.current().suspect, "the first answer does not wait");
        sleep(Duration::from_millis(1)).await;
        assert!(state.current().suspect);
        store.views_audited(&new, 7).await.unwrap();
        sleep(MAX_AGE).await;
        state.current();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(state.current(), ViewAuditState { last_audit: Some(7), ..ViewAuditState::default() });
    }
}
