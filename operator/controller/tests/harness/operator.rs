//! An operator inside of the test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::request::Parts;
use kube::Client;
use ping_operator::{
    cluster_state::Platform,
    metrics::Metrics,
    run::{Settings, lead},
    scope::Scope,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    TestNamespace,
    proxy::{self, ProxyAction, is_write},
};

/// A running operator; killed when dropped.
pub(crate) struct Operator {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    registry: Registry,
}

/// How the operator of a test runs: one namespace, no election.
pub(crate) fn settings(test: &TestNamespace, server_address: &str) -> Settings {
    Settings {
        scope: Scope::namespace(&test.namespace),
        image: "pingpipeline/pingd:test".into(),
        platform: Platform::default(),
        server_address: server_address.into(),
        stats_interval: Duration::from_millis(500),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        lease_namespace: None,
        identity: "test".into(),
    }
}

impl Operator {
    /// Starts one over `client`.
    pub(crate) fn start(client: Client, settings: Settings) -> Self {
        let shutdown = CancellationToken::new();
        let working = shutdown.clone();
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::register(&mut registry));
        let task = tokio::spawn(async move { lead(client, &settings, metrics, working).await });
        Self { shutdown, task, registry }
    }

    /// What `/metrics` would return.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Starts one for `test`; its servers do not answer.
    pub(crate) fn plain(test: &TestNamespace) -> Self {
        Self::start(test.client.clone(), settings(test, "http://127.0.0.1:9"))
    }

    /// Starts one for `test`, and counts what it writes.
    pub(crate) async fn counted(test: &TestNamespace) -> (Self, Arc<AtomicUsize>) {
        Self::counted_with(test, |_| ProxyAction::Pass).await
    }

    /// Starts one for `test` whose requests are treated as `policy` says, and counts what it writes.
    pub(crate) async fn counted_with(
        test: &TestNamespace,
        policy: impl Fn(&Parts) -> ProxyAction + Send + Sync + 'static,
    ) -> (Self, Arc<AtomicUsize>) {
        let writes = Arc::new(AtomicUsize::new(0));
        let counter = writes.clone();
        let policy = move |request: &Parts| {
            if is_write(request) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            policy(request)
        };
        let client = proxy::client(&test.client, Arc::new(policy)).await;
        (Self::start(client, settings(test, "http://127.0.0.1:9")), writes)
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until `writes` has not moved for `quiet`.
pub(crate) async fn settled(writes: &AtomicUsize, quiet: Duration) -> usize {
    loop {
        let before = writes.load(Ordering::SeqCst);
        tokio::time::sleep(quiet).await;
        if before > 0 && writes.load(Ordering::SeqCst) == before {
            return before;
        }
    }
}
