//! Health of the dependencies: checked once a second, reported by `/readyz` and `grpc.health.v1`.

use std::{future::Future, time::Duration};

use ping_runtime::admin::Readiness;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use ping_ports::chain;
use ping_proto::ping_service_server;

/// Pause between two checks of a dependency.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A dependency that takes longer than this to answer is reported as unavailable.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two updates of `grpc.health.v1`.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// Checks one dependency regularly and keeps its state in `readiness`.
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
    readiness.set(dependency, Err("not checked yet".into()));
    tasks.spawn(async move {
        loop {
            readiness.set(
                dependency,
                match timeout(CHECK_TIMEOUT, check()).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(chain(&error)),
                    Err(_) => Err(format!("no response within {} s", CHECK_TIMEOUT.as_secs())),
                },
            );
            sleep(CHECK_INTERVAL).await;
        }
    });
}

/// Reports the state of `/readyz` by `grpc.health.v1` as well.
pub fn report(tasks: &mut JoinSet<()>, readiness: &Readiness, reporter: HealthReporter) {
    let readiness = readiness.clone();
    tasks.spawn(async move {
        loop {
            let status = if readiness.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(ping_service_server::SERVICE_NAME, status).await;
            reporter.set_service_status("", status).await;
            sleep(REPORT_INTERVAL).await;
        }
    });
}
