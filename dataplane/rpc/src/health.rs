//! Whether the dependencies can be used: asked once a second, told on `/readyz` and by `grpc.health.v1`.

use std::{future::Future, time::Duration};

use ping_runtime::admin::Readiness;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use ping_ports::chain;
use ping_proto::ping_service_server;

/// Pause between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// A dependency that takes longer than this to answer is not there.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Keeps the state of one dependency up to date.
pub fn watch<T, E, F>(
    tasks: &mut JoinSet<()>,
    readiness: &Readiness,
    dependency: &'static str,
    check: impl Fn() -> F + Send + 'static,
) where
    F: Future<Output = Result<T, E>> + Send,
    T: Send,
    E: std::error::Error + Send + 'static,
{
    let readiness = readiness.clone();
    readiness.set(dependency, Err("not asked yet".into()));
    tasks.spawn(async move {
        loop {
            readiness.set(
                dependency,
                match timeout(TIMEOUT, check()).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(chain(&error)),
                    Err(_) => Err(format!("no answer in {} s", TIMEOUT.as_secs())),
                },
            );
            sleep(INTERVAL).await;
        }
    });
}

/// Tells `grpc.health.v1` what `/readyz` tells.
pub fn report(tasks: &mut JoinSet<()>, readiness: &Readiness, reporter: HealthReporter) {
    let readiness = readiness.clone();
    tasks.spawn(async move {
        loop {
            let status = if readiness.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(ping_service_server::SERVICE_NAME, status).await;
            reporter.set_service_status("", status).await;
            sleep(INTERVAL / 4).await;
        }
    });
}
