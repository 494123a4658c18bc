//! A control plane that stays until it is told to go, for a developer at a terminal.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, Options, assets, kubectl::Kubectl, others};
use crate::{pid::Pid, process::Lifetime, tools};

/// What can be asked for.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Order {
    /// Start one unless it runs already, and print the line that lets a shell find it, kubectl and helm.
    Up,
    /// End it and remove all that it held.
    Down,
    /// Play the operators and kubelets that do not run here, until interrupted: FOR TESTS AND FOR PLAY ONLY.
    ///
    /// A pipeline waits for CloudNativePG, Strimzi, the Dragonfly operator and its pods. This writes the Secrets and statuses
    /// that the real ones write when all is well, so that the pipeline becomes Ready. Nothing is behind it: no Postgres, no
    /// Kafka, no cache, and no pod runs.
    PlayOthers,
}

/// What `up` leaves for `down`.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    pids: Vec<Pid>,
    kubeconfig: PathBuf,
}

/// Carries out the order.
pub async fn run(order: Order) -> anyhow::Result<()> {
    let folder = state_folder()?;
    match order {
        Order::Up => println!("{}", environment(&up(&folder).await?)?),
        Order::Down => down(&folder)?,
        Order::PlayOthers => play_others(&folder).await?,
    }
    Ok(())
}

/// The line for a shell: where the API server is and, behind what the shell finds already, kubectl and helm.
fn environment(kubeconfig: &Path) -> anyhow::Result<String> {
    let (programs, helm) = (assets::programs()?, assets::helm()?);
    let helm = helm.parent().unwrap_or(&helm);
    Ok(format!("export KUBECONFIG={} PATH=\"$PATH:{}:{}\"", kubeconfig.display(), programs.display(), helm.display()))
}

async fn up(folder: &Path) -> anyhow::Result<PathBuf> {
    if let Some(left) = read(folder)?
        && left.pids.iter().all(|pid| pid.is_running())
    {
        return Ok(left.kubeconfig);
    }
    down(folder)?;
    fs::create_dir_all(folder)?;
    let options = Options { scheduler: true, ..Options::default() };
    let control_plane = ControlPlane::launch(folder, None, Lifetime::Left, options).await?;
    let left = Left { pids: control_plane.pids(), kubeconfig: control_plane.kubeconfig_path().to_owned() };
    fs::write(state_file(folder), serde_json::to_vec(&left)?)?;
    control_plane.leave();
    Ok(left.kubeconfig)
}

async fn play_others(folder: &Path) -> anyhow::Result<()> {
    let left = read(folder)?.context("no control plane is up here: run `make control-plane-up` first")?;
    eprintln!("playing CloudNativePG, Strimzi, the Dragonfly operator and kubelets; nothing is behind it");
    others::play(&Kubectl::new(assets::kubectl()?, &left.kubeconfig, folder)).await;
    Ok(())
}

fn down(folder: &Path) -> anyhow::Result<()> {
    for pid in read(folder)?.map(|left| left.pids).unwrap_or_default() {
        pid.kill_tree()?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<Option<Left>> {
    let file = state_file(folder);
    if !file.exists() {
        return Ok(None);
    }
    let left = serde_json::from_slice(&fs::read(&file)?);
    Ok(Some(left.with_context(|| format!("cannot understand {}", file.display()))?))
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("running.json")
}

fn state_folder() -> anyhow::Result<PathBuf> {
    Ok(tools::state_folder()?.join("control-plane"))
}
