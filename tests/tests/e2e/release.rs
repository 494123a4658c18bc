//! Installs a release on a cluster from its files alone: with Helm, and without. From the clone come only this test and the cluster.
//! `make e2e-release` runs it.

mod files;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use self::files::Release;
use crate::test_cluster::{PIPELINE, SIZES, TestCluster, root};

/// Where the operator is installed, and what it manages by default.
const NAMESPACE: &str = "ping-system";
const CRDS: [&str; 2] = ["pingpipelines.pingpipeline.io", "pingreferencegrants.pingpipeline.io"];
const EVENTS: u64 = 1_000;
/// How long a pipeline may take to be ready on two busy cores.
const READY_TIMEOUT: Duration = Duration::from_secs(420);
/// How long the cache may take to agree with the database.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and needs root and a release: make e2e-release"]
async fn a_cluster_installs_from_the_files_of_a_release() -> anyhow::Result<()> {
    let folder = std::env::var_os("RELEASE").map_or_else(|| root().join("target/release-artifacts"), PathBuf::from);
    let release = Release::open(&folder)?;
    let (chart, plain) = (release.chart()?, release.plain_yaml()?);
    let example = reduced_example(&release)?;
    let cluster = TestCluster::start_with(&release.images()?, release.programs()?, NAMESPACE).await;
    cluster.create_restricted_namespace(NAMESPACE).await;

    let chart = chart.to_string_lossy();
    cluster.helm(&["install", "ping-operator", &chart, "--wait", "--timeout=5m"]).await;
    the_example_counts_and_is_deleted(&cluster, &example).await;
    the_chart_is_removed(&cluster).await;
    println!("{chart}: installed, counted and removed");

    let plain = plain.to_string_lossy();
    cluster.kubectl(&["apply", "--filename", &plain]).await;
    cluster.cluster.wait_until_ready(NAMESPACE, "deployment/ping-operator").await?;
    the_example_counts_and_is_deleted(&cluster, &example).await;
    println!("{plain}: installed and counted");
    Ok(())
}

/// A folder with the release's example and a kustomization that lets it fit this machine.
fn reduced_example(release: &Release) -> anyhow::Result<PathBuf> {
    let folder = release.examples()?;
    fs::copy(folder.join("demo.yaml"), folder.join("pipeline.yaml"))?;
    fs::write(folder.join("kustomization.yaml"), SIZES)?;
    Ok(folder)
}

async fn the_example_counts_and_is_deleted(cluster: &TestCluster, example: &Path) {
    cluster.apply_folder(example).await;
    cluster.wait_until("Ready", READY_TIMEOUT, async || cluster.is_true("Ready").await).await;
    cluster.pingctl(&["ping", "--count", &EVENTS.to_string()]).await;
    assert_eq!(cluster.count().await, EVENTS);
    cluster.total_becomes(EVENTS).await;
    let status = cluster.plugin(&["status", PIPELINE]).await;
    let [screen, error] = [status.stdout, status.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    println!("{screen}");
    assert!(status.status.success() && screen.contains(&format!("{EVENTS} events")), "{screen}{error}");
    // Asked repeatedly, because the cache is filled in the background.
    let recounted = async || cluster.plugin(&["verify", PIPELINE]).await.status.success();
    cluster.wait_until("exact recount", VERIFY_TIMEOUT, recounted).await;
    crate::deletion_leaves_nothing(cluster).await;
}

/// Helm keeps the CRDs. They are deleted, so that the next installation brings its own.
async fn the_chart_is_removed(cluster: &TestCluster) {
    cluster.helm(&["uninstall", "ping-operator", "--wait", "--timeout=5m"]).await;
    let stopped = async || cluster.pods(NAMESPACE, "app.kubernetes.io/name=ping-operator").await.is_empty();
    cluster.wait_until("end of the operator's pods", Duration::from_secs(120), stopped).await;
    cluster.kubectl(&[&["delete", "customresourcedefinitions"], &CRDS[..]].concat()).await;
}
