//! A whole cluster for a developer's shell: `eval "$(cluster up)"`.

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

/// Starts a Kubernetes cluster with two real nodes on this machine: CloudNativePG, and stand-ins for Strimzi and Dragonfly.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// Start one, after clearing away what is left of another, and print the line that lets kubectl find it.
    Up {
        /// Archives of images to make known to its nodes.
        images: Vec<PathBuf>,
    },
    /// End it and undo all that it did to this machine.
    Down,
    /// Stand in for Strimzi, the Dragonfly operator and a volume provisioner: `up` starts this.
    StandIn {
        /// How to reach the cluster.
        kubeconfig: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let order = Cli::parse().order;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = carry_out(order) => done,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn carry_out(order: Order) -> anyhow::Result<()> {
    match order {
        Order::Up { images } => println!("export KUBECONFIG={}", up(&images).await?.display()),
        Order::Down => cluster::clear()?,
        Order::StandIn { kubeconfig } => stand_ins::run(&kubeconfig, cluster::volumes()?).await?,
    }
    Ok(())
}

async fn up(images: &[PathBuf]) -> anyhow::Result<PathBuf> {
    if let Some(kubeconfig) = cluster::running()? {
        return Ok(kubeconfig);
    }
    let cluster = Cluster::start(Lifetime::Left).await?;
    for archive in images {
        cluster.import(&archive.canonicalize()?).await?;
    }
    let kubeconfig = cluster.control_plane().kubeconfig_path().to_owned();
    let mut command = std::process::Command::new(std::env::current_exe()?);
    let log = std::fs::File::create(cluster.folder().join("stand-ins.log"))?;
    command.args(["stand-in"]).arg(&kubeconfig).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let stand_ins = std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn()?;
    let pid = Pid::of(stand_ins.id()).context("the stand-ins ended")?;
    cluster.leave(vec![pid])?;
    Ok(kubeconfig)
}
