//! Listening sockets and the admin port.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use ping_runtime::admin::{self, Readiness, Router};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Binds `address`. The error names `flag`, with which the user can choose another address.
///
/// # Errors
/// When the address is taken or not available.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}

/// Serves the admin port as one of `tasks`, with the routes in `more`.
///
/// # Errors
/// When the address is taken or not available.
pub async fn serve_admin(
    address: SocketAddr,
    readiness: Readiness,
    registry: Registry,
    more: Router,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let listener = bind(address, "--admin-listen").await?;
    tasks.spawn(async move {
        if let Err(error) = admin::serve(listener, readiness, Arc::new(registry), more, CancellationToken::new()).await
        {
            tracing::error!(%error, "the admin port failed");
        }
    });
    Ok(())
}
