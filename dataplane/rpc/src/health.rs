//! Health of the dependencies: checked twice a second, reported by `/readyz` and `grpc.health.v1`.

use std::{future::Future, sync::Arc, time::Duration};

use connectrpc::{RequestContext, Response, Router, handler_fn};
use connectrpc_health::{StaticChecker, Status};
use ping_ports::chain;
use ping_proto::health::{
    HealthCheckResponse, HealthListRequest, HealthListResponse, health_check_response::ServingStatus,
};
use ping_runtime::admin::Readiness;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::limits::SERVICES;

/// Pause between two checks of a dependency. With the timeout, one that vanishes without closing its connections is reported within two
/// seconds.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A dependency that takes longer than this to answer is reported as unavailable.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1_250);
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
                    Err(_) => Err(format!("no response within {CHECK_TIMEOUT:?}")),
                },
            );
            sleep(CHECK_INTERVAL).await;
        }
    });
}

/// The state that `grpc.health.v1` reports, for the process and for each service of the API.
pub struct Health {
    checker: Arc<StaticChecker>,
    readiness: Readiness,
}

impl Health {
    /// Reports the state of `readiness`, as one of `tasks`.
    #[must_use]
    pub fn report(tasks: &mut JoinSet<()>, readiness: &Readiness) -> Self {
        let checker = Arc::new(StaticChecker::with_services(SERVICES));
        let health = Self { checker: Arc::clone(&checker), readiness: readiness.clone() };
        set(&checker, readiness.is_ready());
        let readiness = readiness.clone();
        tasks.spawn(async move {
            let mut reported = readiness.is_ready();
            set(&checker, reported);
            loop {
                sleep(REPORT_INTERVAL).await;
                let ready = readiness.is_ready();
                // Sent to watchers, who want changes only.
                if ready != reported {
                    set(&checker, ready);
                    reported = ready;
                }
            }
        });
        health
    }

    /// Adds `Check`, `Watch` and `List` to `router`.
    pub(super) fn register(&self, router: Router) -> Router {
        let service = Arc::new(connectrpc_health::HealthService::from_arc(Arc::clone(&self.checker)));
        let router = router.add_service(service);
        let router = connectrpc_health::apply_request_limits(router, connectrpc_health::request_limits());
        let readiness = self.readiness.clone();
        let list = move |_: RequestContext, _: HealthListRequest| {
            let list = list(readiness.is_ready());
            async move { Response::ok(list) }
        };
        router.route("grpc.health.v1.Health", "List", handler_fn(list))
    }
}

/// Sets the state of the process and of every service. They are registered, so it cannot fail.
fn set(checker: &StaticChecker, ready: bool) {
    let status = if ready { Status::Serving } else { Status::NotServing };
    for service in SERVICES.into_iter().chain([""]) {
        if let Err(error) = checker.set_status(service, status) {
            tracing::error!(%error, "cannot report the health of a service");
        }
    }
}

fn list(ready: bool) -> HealthListResponse {
    let status = if ready { ServingStatus::SERVING } else { ServingStatus::NOT_SERVING };
    let statuses = SERVICES
        .into_iter()
        .chain([""])
        .map(|service| (service.to_owned(), HealthCheckResponse { status: status.into() }));
    HealthListResponse { statuses: statuses.collect() }
}
