//! Runs a Kubernetes cluster for a developer's shell: `eval "$(cluster up)"`.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use ping_testbed::{
    cluster::{self, Cluster},
    pid::Pid,
    process::Lifetime,
};
use ping_tests::stand_ins;
use tokio::signal::unix::{SignalKind, signal};

/// Run a Kubernetes cluster with two real nodes on this machine, with CloudNativePG and stand-ins for Strimzi and Dragonfly.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start it, after removing the remains of an earlier one, and print the line that lets kubectl find it.
    Up {
        /// Image archives to load into its nodes.
        images: Vec<PathBuf>,
    },
    /// Stop it and remove all its traces from this machine.
    Down,
    /// Simulate Strimzi, the Dragonfly operator and a volume provisioner. `up` starts this.
    StandIn {
        /// Kubeconfig of the cluster.
        kubeconfig: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let action = Cli::parse().action;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = run(action) => result,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn run(action: Action) -> anyhow::Result<()> {
    match action {
        Action::Up { images } => println!("export KUBECONFIG={}", up(&images).await?.display()),
        Action::Down => cluster::remove()?,
        Action::StandIn { kubeconfig } => stand_ins::run(&kubeconfig, cluster::volumes()?).await?,
    }
    Ok(())
}

async fn up(images: &[PathBuf]) -> anyhow::Result<PathBuf> {
    if let Some(kubeconfig) = cluster::running()? {
        return Ok(kubeconfig);
    }
    let cluster = Cluster::start(Lifetime::Detached).await?;
    for archive in images {
        cluster.import(&archive.canonicalize()?).await?;
    }
    let kubeconfig = cluster.control_plane().kubeconfig_path().to_owned();
    let mut command = std::process::Command::new(std::env::current_exe()?);
    let log = std::fs::File::create(cluster.folder().join("stand-ins.log"))?;
    command.args(["stand-in"]).arg(&kubeconfig).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let stand_ins = std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn()?;
    let pid = Pid::of(stand_ins.id()).context("the stand-ins exited")?;
    cluster.detach(vec![pid])?;
    Ok(kubeconfig)
}
