//! `ping-operator run`: wires everything together.

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
use ping_runtime::admin::{self, Readiness};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    client,
    context::{Context, Dependencies},
    controller,
    index::Index,
    leader::Election,
    metrics::Metrics,
    stats::{self, HttpAsk},
    watches::Scope,
};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which pipelines it looks after.
    pub scope: Scope,
    /// Image for workloads that name none.
    pub image: String,
    /// Where servers are asked for figures: `{name}`, `{namespace}`, `{service}` and `{port}` are filled in.
    pub server_address: String,
    /// How often they are asked.
    pub figures_every: Duration,
    /// Address of `/healthz`, `/readyz`, `/metrics`.
    pub admin_listen: SocketAddr,
    /// Namespace of the Lease; none: no election.
    pub lease_namespace: Option<String>,
    /// Name of this process among its replicas.
    pub identity: String,
}

/// Runs until `shutdown`, or until the lease is lost.
///
/// # Errors
/// When the API server cannot be reached at all, the admin port is taken, or the lease is lost.
pub async fn run(config: Config, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let client = client::connect(config.clone(), metrics.clone()).context("cannot connect to the API server")?;
    let readiness = Readiness::default();
    let listener = TcpListener::bind(settings.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.admin_listen))?;
    tracing::info!(admin = %listener.local_addr()?, scope = ?settings.scope, "started");
    tokio::spawn(admin::serve(listener, readiness.clone(), Arc::new(registry), shutdown.clone()));
    reach(&client, &readiness, &shutdown).await;
    let Some(namespace) = &settings.lease_namespace else {
        lead(client, &settings, metrics, shutdown).await;
        return Ok(());
    };
    let election = Election::join(config, namespace, OPERATOR, &settings.identity)
        .await
        .context("cannot take part in the election")?;
    if !election.win(&shutdown).await {
        return Ok(());
    }
    tracing::info!(identity = settings.identity, "leads");
    metrics.leads(true);
    let working = shutdown.child_token();
    let work = lead(client, &settings, metrics, working.clone());
    tokio::select! {
        () = work => Ok(()),
        () = election.hold(&shutdown) => {
            working.cancel();
            anyhow::ensure!(shutdown.is_cancelled(), "lost the lease: another operator leads");
            Ok(())
        }
    }
}

/// Ready means that the API server answers, for leaders and for those who wait.
async fn reach(client: &Client, readiness: &Readiness, shutdown: &CancellationToken) {
    loop {
        match client.apiserver_version().await {
            Ok(_) => return readiness.set("kubernetes", Ok(())),
            Err(error) => readiness.set("kubernetes", Err(crate::error::chain(&error))),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// The work of the leader: passes and figures until `shutdown`.
pub async fn lead(client: Client, settings: &Settings, metrics: Arc<Metrics>, shutdown: CancellationToken) {
    let reporter = Reporter { controller: OPERATOR.into(), instance: Some(settings.identity.clone()) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        image: settings.image.clone(),
        index: Index::default(),
        dependencies: Dependencies::default(),
        metrics,
    });
    let (publish, store) = oneshot::channel();
    let figures = keep_figures(context.clone(), settings, store, shutdown.clone());
    let publish = |store| {
        // Only fails when the figures have ended, with the shutdown.
        let _ = publish.send(store);
    };
    let controller = controller::run(context, settings.scope.clone(), shutdown, publish);
    futures::future::join(controller, figures).await;
}

async fn keep_figures(
    context: Arc<Context>,
    settings: &Settings,
    store: oneshot::Receiver<Store<PingPipeline>>,
    shutdown: CancellationToken,
) {
    match (HttpAsk::new(&settings.server_address), store.await) {
        (Ok(ask), Ok(store)) => {
            figures::keep(context, store, Arc::new(ask), settings.figures_every, shutdown).await;
        }
        (Err(error), _) => tracing::error!(error = crate::error::chain(&error), "cannot ask servers for figures"),
        (Ok(_), Err(_)) => {}
    }
}
