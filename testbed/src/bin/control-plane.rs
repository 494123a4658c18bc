//! Starts a Kubernetes control plane for a developer's shell: `eval "$(control-plane up)"`.

use anyhow::bail;
use clap::Parser;
use ping_testbed::control_plane::cli::{self, Action};
use tokio::signal::unix::{SignalKind, signal};

/// Run a Kubernetes control plane, with the CRDs that the operator depends on, on a free port of 127.0.0.1.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let action = Cli::parse().action;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // An interrupt drops the future, which stops whatever it has started so far.
    tokio::select! {
        result = cli::run(action) => result,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}
