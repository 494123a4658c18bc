//! Listening sockets, and the admin port that every program serves.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use ping_runtime::admin::{self, Readiness};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Binds `address`, or says what is in the way.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}

/// Serves the admin port in the background.
pub async fn serve_admin(
    address: SocketAddr,
    readiness: Readiness,
    registry: Registry,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let listener = bind(address, "--admin-listen").await?;
    tasks.spawn(async move {
        if let Err(error) = admin::serve(listener, readiness, Arc::new(registry), CancellationToken::new()).await {
            tracing::error!(%error, "the admin port failed");
        }
    });
    Ok(())
}
