//! A server for the conformance suite of Connect.
//!
//! The suite's runner starts it once for each combination of protocol and HTTP version, and stops it with SIGTERM. What the service
//! has to answer is in `docs/testing_servers.md` of the Go module `connectrpc.com/conformance`.

mod echo;
mod proto;
mod reply;
mod responses;
mod runner;
mod service;

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::ensure;
use ping_transport::{Transport, TransportMetrics, TransportSettings, TrustedProxies, serve};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::proto::ServerCompatResponse;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let request = runner::read_request()?;
    ensure!(!request.use_tls, "this server has no TLS: set supports_tls to false in the suite's configuration");
    proto::register_types();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let mut runner = runner::Output::open()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = CancellationToken::new();
    let metrics = TransportMetrics::register(&mut Registry::default());
    let transport = Transport::new(TransportSettings::default(), TrustedProxies::new(Vec::new()), Arc::new(metrics));
    let service = service::http_service(request.message_receive_limit);
    let server = tokio::spawn(serve(listener, vec![service], transport, shutdown.clone()));
    let response = ServerCompatResponse { host: address.ip().to_string(), port: address.port().into() };
    runner.write(&response).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        () = runner.closed() => {}
    }
    shutdown.cancel();
    server.await?;
    Ok(())
}
