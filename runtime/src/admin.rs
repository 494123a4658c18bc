//! The admin port: `/healthz` (the process responds), `/readyz` (its dependencies are available), `/metrics` (OpenMetrics text), and
//! whatever a program adds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Routes of the admin port.
pub use axum::Router;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The state of each dependency, as reported by the component that uses it.
/// A process is not ready before the first report.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

impl Readiness {
    /// Records whether `dependency` is available. The error gives the cause in words for the person on call.
    pub fn set(&self, dependency: &'static str, state: Result<(), String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(dependency, state);
    }

    /// True if every reported dependency is available.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !states.is_empty() && states.values().all(Result::is_ok)
    }

    /// One line per dependency: `postgres: ok` or `kafka: no broker answered`.
    #[must_use]
    pub fn report(&self) -> String {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.is_empty() {
            return "starting\n".into();
        }
        states
            .iter()
            .map(|(name, state)| match state {
                Ok(()) => format!("{name}: ok\n"),
                Err(why) => format!("{name}: {why}\n"),
            })
            .collect()
    }
}

#[derive(Clone)]
struct Admin {
    readiness: Readiness,
    registry: Arc<Registry>,
}

/// Serves the admin port on `listener` until `shutdown`, with the routes in `more`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    registry: Arc<Registry>,
    more: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(readiness, registry, more)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// The routes of the admin port, with those in `more`.
pub fn router(readiness: Readiness, registry: Arc<Registry>, more: Router) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Admin { readiness, registry })
        .merge(more)
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let status = if admin.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, admin.readiness.report())
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
