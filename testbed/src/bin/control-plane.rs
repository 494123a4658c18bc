//! A Kubernetes control plane for a developer's shell: `eval "$(control-plane up)"`.

use anyhow::bail;
use clap::Parser;
use ping_testbed::control_plane::cli::{self, Order};
use tokio::signal::unix::{SignalKind, signal};

/// Starts a Kubernetes control plane with the CRDs that we build on, on a free port of 127.0.0.1.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    order: Order,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let order = Cli::parse().order;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // What was started until then goes with the order.
    tokio::select! {
        done = cli::run(order) => done,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}
