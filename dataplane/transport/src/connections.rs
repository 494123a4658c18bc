//! Which connections are accepted, and when one is idle.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{TransportMetrics, TransportSettings};

/// Counts open connections, in total and by address.
pub(crate) struct Connections {
    by_address: Mutex<HashMap<IpAddr, usize>>,
    limit: usize,
    limit_per_address: usize,
    metrics: Arc<TransportMetrics>,
}

impl Connections {
    pub(crate) fn new(settings: &TransportSettings, metrics: Arc<TransportMetrics>) -> Arc<Self> {
        metrics.connections_limit.set(i64::try_from(settings.connections).unwrap_or(i64::MAX));
        Arc::new(Self {
            by_address: Mutex::default(),
            limit: settings.connections,
            limit_per_address: settings.connections_per_address,
            metrics,
        })
    }

    /// Admits a connection from `address`, unless that would exceed a limit. The limit per address does not hold for a trusted
    /// proxy: it connects for many callers.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Option<OpenConnection> {
        let mut by_address = self.by_address.lock();
        let total: usize = self.metrics.connections.get().try_into().unwrap_or_default();
        if total >= self.limit {
            self.metrics.close("limit");
            return None;
        }
        let open = by_address.entry(address).or_default();
        if *open >= self.limit_per_address && !is_proxy {
            self.metrics.close("address_limit");
            return None;
        }
        *open += 1;
        self.metrics.connections.inc();
        Some(OpenConnection { address, connections: Arc::clone(self) })
    }
}

/// A connection that counts towards the limits until it is dropped.
pub(crate) struct OpenConnection {
    address: IpAddr,
    connections: Arc<Connections>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut by_address = self.connections.by_address.lock();
        if let Some(open) = by_address.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                by_address.remove(&self.address);
            }
        }
        self.connections.metrics.connections.dec();
    }
}

/// The requests in progress on one connection, and the answers that wait to be sent.
pub(crate) struct Activity {
    requests: AtomicUsize,
    used: AtomicBool,
    /// When the last request ended, or the connection was accepted.
    idle_since: Mutex<Instant>,
    /// Complete answers that are not sent.
    answers: AtomicUsize,
    /// Changes whenever there is another complete answer, or some of one is sent.
    progress: AtomicUsize,
    metrics: Arc<TransportMetrics>,
}

impl Activity {
    pub(crate) fn new(metrics: Arc<TransportMetrics>) -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicUsize::new(0),
            used: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            answers: AtomicUsize::new(0),
            progress: AtomicUsize::new(0),
            metrics,
        })
    }

    /// A request begins. It ends when the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
        self.metrics.requests.inc();
        ActiveRequest { activity: Arc::clone(self), is_answered: false }
    }

    /// Completes when no request has arrived within `first`, or none has been in progress for `timeout`.
    pub(crate) async fn idle_for(&self, first: Duration, timeout: Duration) {
        loop {
            let now = Instant::now();
            let timeout = if self.used.load(Ordering::Relaxed) { timeout } else { first };
            let busy = self.requests.load(Ordering::Relaxed) > 0;
            let idle_at = if busy { now } else { *self.idle_since.lock() } + timeout;
            if idle_at <= now {
                return;
            }
            sleep_until(idle_at).await;
        }
    }

    /// Completes when the peer has accepted nothing of the complete answers that wait for it, for `timeout` to twice as long.
    pub(crate) async fn unread_for(&self, timeout: Duration) {
        loop {
            let before = self.progress.load(Ordering::Relaxed);
            sleep(timeout).await;
            if self.answers.load(Ordering::Relaxed) > 0 && self.progress.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// A request in progress.
pub(crate) struct ActiveRequest {
    activity: Arc<Activity>,
    is_answered: bool,
}

impl ActiveRequest {
    /// The same request, whose answer is complete.
    pub(crate) fn answered(mut self) -> Self {
        self.is_answered = true;
        self.activity.answers.fetch_add(1, Ordering::Relaxed);
        self.sent();
        self
    }

    /// Some of the answer is sent.
    pub(crate) fn sent(&self) {
        if self.is_answered {
            self.activity.progress.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if self.is_answered {
            self.activity.answers.fetch_sub(1, Ordering::Relaxed);
        }
        *self.activity.idle_since.lock() = Instant::now();
        self.activity.requests.fetch_sub(1, Ordering::Relaxed);
        self.activity.metrics.requests.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Arc<TransportMetrics> {
        Arc::new(TransportMetrics::register(&mut Default::default()))
    }

    #[test]
    fn connections_are_limited_in_total_and_by_address() {
        let settings = TransportSettings { connections: 4, connections_per_address: 2, ..Default::default() };
        let connections = Connections::new(&settings, metrics());
        let [first, second] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let mut open: Vec<_> = (0..2).filter_map(|_| connections.admit(first, false)).collect();
        assert!(connections.admit(first, false).is_none(), "the address has two");
        open.extend((0..2).filter_map(|_| connections.admit(second, true)));
        assert!(connections.admit(second, true).is_none(), "there are four");
        drop(open);
        assert!(connections.admit(first, false).is_some());
        assert!(connections.by_address.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_no_request_is_idle_soon() {
        let started = Instant::now();
        Activity::new(metrics()).idle_for(Duration::from_secs(1), Duration::from_secs(300)).await;
        assert_eq!(started.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_once_its_last_request_ended_long_ago() {
        let activity = Activity::new(metrics());
        let timeout = Duration::from_secs(10);
        let started = Instant::now();
        let request = activity.begin();
        tokio::spawn(async move {
            sleep_until(started + Duration::from_secs(25)).await;
            drop(request);
        });
        activity.idle_for(Duration::from_secs(1), timeout).await;
        assert!(started.elapsed() >= Duration::from_secs(35), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_answer_is_unread_once_the_peer_has_accepted_nothing_for_long() {
        let activity = Activity::new(metrics());
        let timeout = Duration::from_secs(10);
        let started = Instant::now();
        let (_stream, read, unread) = (activity.begin(), activity.begin().answered(), activity.begin().answered());
        tokio::spawn(async move {
            for _ in 0..9 {
                sleep(Duration::from_secs(7)).await;
                read.sent();
            }
        });
        activity.unread_for(timeout).await;
        assert_eq!(started.elapsed().as_secs(), 80);
        drop(unread);
        let forever = tokio::time::timeout(Duration::from_secs(3_600), activity.unread_for(timeout));
        assert!(forever.await.is_err(), "a stream is not complete");
    }
}
