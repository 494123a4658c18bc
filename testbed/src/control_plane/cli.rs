//! The subcommands of `control-plane`: a control plane that runs in the background until it is stopped.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, Options, assets, fake_operators, kubectl::Kubectl};
use crate::{pid::Pid, process::Lifetime, tools};

/// What to do.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Action {
    /// Start it unless it already runs, and print the line that lets a shell find it, kubectl and helm.
    Up,
    /// Stop it and delete its data.
    Down,
    /// Simulate the operators and kubelets that do not run here, until interrupted. For tests and experiments only.
    ///
    /// A pipeline waits for CloudNativePG, Strimzi, the Dragonfly operator and its own pods. This command writes the Secrets
    /// and statuses that they write when they are healthy, so that the pipeline becomes Ready. No Postgres, Kafka, cache or
    /// pod actually runs.
    FakeOperators,
}

/// What `up` records for `down`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    pids: Vec<Pid>,
    kubeconfig: PathBuf,
}

/// Performs the action.
pub async fn run(action: Action) -> anyhow::Result<()> {
    let folder = state_folder()?;
    match action {
        Action::Up => println!("{}", environment(&up(&folder).await?)?),
        Action::Down => down(&folder)?,
        Action::FakeOperators => fake_operators(&folder).await?,
    }
    Ok(())
}

/// The line for a shell: sets KUBECONFIG and appends the folders of kubectl and helm to PATH.
fn environment(kubeconfig: &Path) -> anyhow::Result<String> {
    let (programs, helm) = (assets::programs()?, assets::helm()?);
    let helm = helm.parent().unwrap_or(&helm);
    Ok(format!("export KUBECONFIG={} PATH=\"$PATH:{}:{}\"", kubeconfig.display(), programs.display(), helm.display()))
}

async fn up(folder: &Path) -> anyhow::Result<PathBuf> {
    if let Some(record) = read(folder)?
        && record.pids.iter().all(|pid| pid.is_running())
    {
        return Ok(record.kubeconfig);
    }
    down(folder)?;
    fs::create_dir_all(folder)?;
    let options = Options { scheduler: true, ..Options::default() };
    let control_plane = ControlPlane::launch(folder, None, Lifetime::Detached, options).await?;
    let record = Record { pids: control_plane.pids(), kubeconfig: control_plane.kubeconfig_path().to_owned() };
    fs::write(state_file(folder), serde_json::to_vec(&record)?)?;
    control_plane.detach();
    Ok(record.kubeconfig)
}

async fn fake_operators(folder: &Path) -> anyhow::Result<()> {
    let record = read(folder)?.context("no control plane is running: start one with `make control-plane-up`")?;
    eprintln!("simulating CloudNativePG, Strimzi, the Dragonfly operator and kubelets; no pods run");
    fake_operators::run(&Kubectl::new(assets::kubectl()?, &record.kubeconfig, folder)).await;
    Ok(())
}

fn down(folder: &Path) -> anyhow::Result<()> {
    for pid in read(folder)?.map(|record| record.pids).unwrap_or_default() {
        pid.kill_tree()?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<Option<Record>> {
    let file = state_file(folder);
    if !file.exists() {
        return Ok(None);
    }
    let record = serde_json::from_slice(&fs::read(&file)?);
    Ok(Some(record.with_context(|| format!("cannot parse {}", file.display()))?))
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("running.json")
}

fn state_folder() -> anyhow::Result<PathBuf> {
    Ok(tools::state_folder()?.join("control-plane"))
}
