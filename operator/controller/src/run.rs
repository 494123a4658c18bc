//! `ping-operator run`: connects to the API server, takes part in leader election, and starts the controller.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::{
    Client, Config,
    runtime::{
        events::{Recorder, Reporter},
        reflector::Store,
    },
};
use ping_api::{crd::PingPipeline, names::OPERATOR};
use ping_runtime::{
    admin::{self, Readiness},
    process,
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    client,
    cluster_state::Platform,
    connections::Connections,
    context::{Context, Dependencies},
    controller,
    error::chain,
    index::Index,
    leader::Election,
    metrics::Metrics,
    scope::Scope,
    stats,
};

/// Settings of the operator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which pipelines it manages.
    pub scope: Scope,
    /// Image with `pingd`, for pipelines that do not set one.
    pub image: String,
    /// What pipelines may use, and where other operators run.
    pub platform: Platform,
    /// URL template for stats requests to servers, with the placeholders `{scheme}`, `{name}`, `{namespace}`, `{service}` and `{port}`.
    pub server_address: String,
    /// Interval between stats requests to the same pipeline.
    pub stats_interval: Duration,
    /// Address of `/healthz`, `/readyz`, `/metrics`.
    pub admin_listen: SocketAddr,
    /// Namespace of the Lease for leader election; `None` disables leader election.
    pub lease_namespace: Option<String>,
    /// Unique name of this replica.
    pub identity: String,
}

/// Runs until `shutdown`, or until the lease is lost.
///
/// # Errors
/// If the client configuration is invalid, the admin port is in use, or the lease is lost.
pub async fn run(config: Config, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    process::register(&mut registry, "operator", env!("CARGO_PKG_VERSION"));
    let metrics = Arc::new(Metrics::register(&mut registry));
    let client = client::connect(config.clone(), metrics.clone()).context("cannot connect to the API server")?;
    let readiness = Readiness::default();
    let listener = TcpListener::bind(settings.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.admin_listen))?;
    tracing::info!(admin = %listener.local_addr()?, scope = ?settings.scope, "started");
    tokio::spawn(admin::serve(listener, readiness.clone(), Arc::new(registry), admin::Router::new(), shutdown.clone()));
    wait_for_api_server(&client, &readiness, &shutdown).await;
    let Some(namespace) = &settings.lease_namespace else {
        lead(client, &settings, metrics, shutdown).await;
        return Ok(());
    };
    let mut election =
        Election::join(config, namespace, OPERATOR, &settings.identity).context("cannot join leader election")?;
    if !election.win(&shutdown).await {
        return Ok(());
    }
    tracing::info!(identity = settings.identity, "became the leader");
    metrics.leads(true);
    let working = shutdown.child_token();
    let work = lead(client, &settings, metrics, working.clone());
    let is_lost = tokio::select! {
        () = work => false,
        () = election.hold() => true,
    };
    if is_lost {
        working.cancel();
        anyhow::bail!("lost the lease: another replica is the leader now");
    }
    // The work has ended at `shutdown`.
    if let Err(error) = election.release().await {
        tracing::warn!(error = chain(&error), "cannot release the lease");
    }
    Ok(())
}

/// Waits until the API server responds, and reports it as readiness. This applies to leaders and standbys alike.
async fn wait_for_api_server(client: &Client, readiness: &Readiness, shutdown: &CancellationToken) {
    loop {
        match client.apiserver_version().await {
            Ok(_) => return readiness.set("kubernetes", Ok(())),
            Err(error) => readiness.set("kubernetes", Err(chain(&error))),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Runs the controller and the stats loop until `shutdown`. Only the leader does this.
pub async fn lead(client: Client, settings: &Settings, metrics: Arc<Metrics>, shutdown: CancellationToken) {
    let reporter = Reporter { controller: OPERATOR.into(), instance: Some(settings.identity.clone()) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        image: settings.image.clone(),
        platform: settings.platform.clone(),
        server_address: settings.server_address.clone(),
        connections: Connections::default(),
        index: Index::default(),
        dependencies: Dependencies::default(),
        metrics,
    });
    let (publish, store) = oneshot::channel();
    let stats = run_stats(context.clone(), settings, store, shutdown.clone());
    let publish = |store| {
        // Fails only during shutdown, when the stats loop has ended.
        let _ = publish.send(store);
    };
    let controller = controller::run(context, settings.scope.clone(), shutdown, publish);
    futures::future::join(controller, stats).await;
}

async fn run_stats(
    context: Arc<Context>,
    settings: &Settings,
    store: oneshot::Receiver<Store<PingPipeline>>,
    shutdown: CancellationToken,
) {
    // Ends without a store only during shutdown.
    if let Ok(store) = store.await {
        stats::run(context, store, settings.stats_interval, shutdown).await;
    }
}
