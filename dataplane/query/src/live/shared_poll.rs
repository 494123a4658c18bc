//! A poll that runs while someone watches its result.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{select, sync::watch};

use crate::QueryError;

/// Watchers that a poll may have. Each holds a stream and its buffers.
const MAX_WATCHERS: usize = 1_000;

/// The latest result of a poll, which all watchers share; `None` before the first one.
pub(super) struct SharedPoll<T> {
    latest: watch::Sender<Option<T>>,
    /// Whether a task polls.
    running: Mutex<bool>,
}

impl<T> Default for SharedPoll<T> {
    fn default() -> Self {
        Self { latest: watch::Sender::default(), running: Mutex::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> SharedPoll<T> {
    /// Adds a watcher. Starts `poll`, which must not end, if there was none; it is dropped with the last watcher.
    ///
    /// # Errors
    /// When there are too many watchers.
    pub(super) fn watch<F>(self: &Arc<Self>, poll: impl FnOnce() -> F) -> Result<watch::Receiver<Option<T>>, QueryError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.running.lock();
        if self.latest.receiver_count() >= MAX_WATCHERS {
            return Err(QueryError::TooManyWatchers(MAX_WATCHERS));
        }
        let watcher = self.latest.subscribe();
        if !*running {
            *running = true;
            tokio::spawn(Arc::clone(self).run(poll()));
        }
        Ok(watcher)
    }

    async fn run(self: Arc<Self>, poll: impl Future<Output = ()>) {
        tokio::pin!(poll);
        loop {
            select! {
                () = &mut poll => {}
                () = self.latest.closed() => {}
            }
            // A watcher may have come meanwhile.
            let mut running = self.running.lock();
            if self.latest.receiver_count() == 0 {
                // The next watcher must not get a result from before it came.
                self.latest.send_replace(None);
                *running = false;
                return;
            }
        }
    }

    /// The latest result.
    pub(super) fn latest(&self) -> Option<T> {
        self.latest.borrow().clone()
    }

    /// Gives watchers a result.
    pub(super) fn publish(&self, result: T) {
        self.latest.send_replace(Some(result));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::time::sleep;

    use super::*;

    /// Publishes how often it was called, once a second.
    fn poll(shared: &Arc<SharedPoll<usize>>, calls: &Arc<AtomicUsize>) -> impl Future<Output = ()> + use<> {
        let (shared, calls) = (Arc::clone(shared), Arc::clone(calls));
        async move {
            loop {
                shared.publish(calls.fetch_add(1, Ordering::Relaxed));
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_watchers_share_one_poll_which_ends_with_the_last_of_them() {
        let (shared, calls) = (Arc::new(SharedPoll::default()), Arc::new(AtomicUsize::new(0)));
        let mut watchers: Vec<_> = (0..10).map(|_| shared.watch(|| poll(&shared, &calls)).unwrap()).collect();
        sleep(Duration::from_millis(9_500)).await;
        assert_eq!(calls.load(Ordering::Relaxed), 10);
        assert!(watchers.iter_mut().all(|watcher| *watcher.borrow_and_update() == Some(9)));
        drop(watchers);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(calls.load(Ordering::Relaxed), 10, "no one watches");
        let late = shared.watch(|| poll(&shared, &calls)).unwrap();
        assert_eq!(*late.borrow(), None, "a result from before is not current");
        sleep(Duration::from_millis(500)).await;
        assert_eq!(*late.borrow(), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_beyond_the_limit_are_refused_until_another_leaves() {
        let (shared, calls) = (Arc::new(SharedPoll::default()), Arc::new(AtomicUsize::new(0)));
        let mut watchers: Vec<_> = (0..MAX_WATCHERS).map(|_| shared.watch(|| poll(&shared, &calls)).unwrap()).collect();
        assert!(matches!(shared.watch(|| poll(&shared, &calls)), Err(QueryError::TooManyWatchers(MAX_WATCHERS))));
        watchers.pop();
        assert!(shared.watch(|| poll(&shared, &calls)).is_ok());
    }
}
