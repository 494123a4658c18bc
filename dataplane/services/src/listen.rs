//! Listening sockets and the admin port.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use ping_rpc::AdminGate;
use ping_runtime::{
    admin::{self, Readiness, Router},
    process,
};
use ping_transport::{Transport, TransportMetrics, TransportSettings, TrustedProxies};
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

use crate::Security;

/// Connections to the admin port: probes, scrapes and people.
const ADMIN_CONNECTIONS: usize = 100;
/// Connections to the admin port from one address. All probes of a pod come from its node, and all its scrapes from a few addresses.
const ADMIN_CONNECTIONS_PER_ADDRESS: usize = 20;
/// How long an idle connection to the admin port stays open. A client that keeps one between two scrapes opens another.
const ADMIN_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes that requests to the admin port may hold together.
const ADMIN_MEMORY_BYTES: usize = 4 * 1024 * 1024;

/// Serves the admin port of `program` as one of `tasks`, with the routes in `more`: encrypted like the API, behind the same access policy,
/// with limits of its own.
///
/// # Errors
/// When the address is taken or not available.
pub async fn serve_admin(
    program: &'static str,
    address: SocketAddr,
    readiness: Readiness,
    mut registry: Registry,
    more: Router,
    security: Security,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let listener = bind(address, "--admin-listen").await?;
    process::register(&mut registry, program, env!("CARGO_PKG_VERSION"));
    let metrics = Arc::new(TransportMetrics::register_as("ping_admin", &mut registry));
    let settings = TransportSettings {
        memory_bytes: ADMIN_MEMORY_BYTES,
        connections: ADMIN_CONNECTIONS,
        connections_per_address: ADMIN_CONNECTIONS_PER_ADDRESS,
        idle_timeout: ADMIN_IDLE_TIMEOUT,
        ..TransportSettings::default()
    };
    let transport = Transport::new(settings, TrustedProxies::default(), metrics).with_tls(security.admin_tls);
    let router = admin::router(readiness, Arc::new(registry), more);
    let service = AdminGate::new(router, security.access);
    tasks.spawn(ping_transport::serve(listener, vec![service], transport, CancellationToken::new()));
    Ok(())
}
