//! Follows `docs/how-to/backup-and-restore.md` on a cluster with an object store. A pipeline is backed up, and restored twice by manifests alone: to a
//! time and, after it was deleted with all its data, to the latest state.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    at,
    test_cluster::{TestCluster, holds},
    walkthrough::Walkthrough,
};

/// How long a pipeline may take to be restored, or to be deleted, on two busy cores.
const TIMEOUT: Duration = Duration::from_secs(600);
/// How long the views and the cache may take to agree with the database.
const PROOF_TIMEOUT: Duration = Duration::from_secs(120);
/// The time of a restore is in whole seconds.
const OVER_A_SECOND: Duration = Duration::from_millis(1_100);
/// The time in the page's command.
const TIME_ON_THE_PAGE: &str = "2026-11-28T09:30:00Z";

/// Events by source.
type Counts = BTreeMap<&'static str, u64>;

const IN_THE_BACKUP: [(&str, u64); 2] = [("shop", 300), ("bank", 200)];
const BEFORE_THE_TIME: [(&str, u64); 2] = [("shop", 120), ("blog", 80)];
const AFTER_THE_TIME: [(&str, u64); 2] = [("shop", 60), ("late", 40)];

pub(crate) async fn by_the_page(cluster: &TestCluster) {
    let mut page = Walkthrough::start(cluster, "docs/how-to/backup-and-restore.md").await;
    page.run("kubectl create secret generic pings-backup ").await;
    page.run("kubectl label secret pings-backup ").await;
    page.apply_manifest().await;
    let mut acknowledged = Counts::new();
    becomes_exact(cluster, "pings").await;
    send(cluster, &IN_THE_BACKUP, &mut acknowledged).await;
    let backup = page.run("kubectl pingpipeline backup pings").await;
    assert!(backup.contains(" completed at "), "{backup}");
    page.run("kubectl wait --for=condition=BackedUp pp/pings ").await;

    send(cluster, &BEFORE_THE_TIME, &mut acknowledged).await;
    sleep(OVER_A_SECOND).await;
    let (time, then) = (Timestamp::from_second(Timestamp::now().as_second()).unwrap(), acknowledged.clone());
    sleep(OVER_A_SECOND).await;
    send(cluster, &AFTER_THE_TIME, &mut acknowledged).await;
    has(cluster, "pings", &acknowledged).await;
    archive_log(cluster).await;

    let at_the_time = |command: String| command.replace(TIME_ON_THE_PAGE, &time.to_string());
    page.run_changed("kubectl pingpipeline restore-plan pings --as pings-2 --time ", at_the_time).await;
    page.run("kubectl apply -f pings-2.yaml").await;
    page.run("kubectl wait --for=condition=Ready pp/pings-2 ").await;
    page.run("kubectl wait --for=condition=Exact pp/pings-2 ").await;
    has(cluster, "pings-2", &then).await;
    says_what_was_restored(cluster, "pings-2", &format!("its state of {time}")).await;
    println!("restored to {time}: {then:?}, and nothing of what followed: {acknowledged:?}");
    delete(cluster, "pings-2").await;

    delete(cluster, "pings").await;
    page.apply_manifest().await;
    becomes_exact(cluster, "pings-3").await;
    has(cluster, "pings-3", &acknowledged).await;
    says_what_was_restored(cluster, "pings-3", "the latest state that was archived").await;
    println!("restored to the latest state: {acknowledged:?}");
    page.finish();
}

/// Sends events to the pipeline that is backed up.
async fn send(cluster: &TestCluster, events: &[(&'static str, u64)], acknowledged: &mut Counts) {
    for &(source, number) in events {
        cluster.pingctl_of("pings", &["ping", "--source", source, "--count", &number.to_string()]).await;
        *acknowledged.entry(source).or_default() += number;
    }
}

async fn becomes_exact(cluster: &TestCluster, pipeline: &str) {
    let exact = async || {
        let pipeline = cluster.json(&["get", "pingpipeline", pipeline]).await;
        holds(&pipeline, "Ready") && holds(&pipeline, "Exact")
    };
    cluster.wait_until(&format!("{pipeline}: Ready and Exact"), TIMEOUT, exact).await;
}

/// The pipeline has these events, in the database, in the cache and in the views per source, and no others.
async fn has(cluster: &TestCluster, pipeline: &str, expected: &Counts) {
    let total: u64 = expected.values().sum();
    assert_eq!(cluster.count_of(pipeline).await, total, "{pipeline}");
    let by_source = expected.iter().map(|(source, count)| ((*source).to_owned(), *count)).collect::<BTreeMap<_, _>>();
    let views_agree = async || sources(cluster, pipeline).await == by_source;
    cluster.wait_until(&format!("{pipeline}: {expected:?} per source"), PROOF_TIMEOUT, views_agree).await;
    let number = total.to_string();
    // Asked repeatedly, because the cache is filled in the background.
    let recounted = async || {
        let output = cluster.plugin(&["--output=json", "verify", pipeline]).await;
        let proof = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
        proof["exact"] == true && proof["rows"] == number && proof["cacheTotal"] == number
    };
    cluster.wait_until(&format!("{pipeline}: {total} rows, and the same in the cache"), PROOF_TIMEOUT, recounted).await;
}

/// `Exact` names the state that was restored, and does not mistake the new topic for one that was created again.
async fn says_what_was_restored(cluster: &TestCluster, pipeline: &str, state: &str) {
    let pipeline = cluster.json(&["get", "pingpipeline", pipeline]).await;
    let mut conditions = at(&pipeline, "/status/conditions").as_array().into_iter().flatten();
    let exact = conditions.find(|condition| condition["type"] == "Exact").unwrap();
    assert!(exact["reason"] == "Restored" && exact["message"].as_str().unwrap().contains(state), "{exact}");
}

async fn sources(cluster: &TestCluster, pipeline: &str) -> BTreeMap<String, u64> {
    let top: Value = serde_json::from_str(&cluster.pingctl_of(pipeline, &["top", "--json"]).await).unwrap();
    let sources = top["sources"].as_array().into_iter().flatten();
    sources.map(|source| (source["source"].as_str().unwrap().to_owned(), number(&source["count"]))).collect()
}

/// A 64-bit integer in protobuf's JSON.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is not a number in quotes"))
}

/// Completes the current segment of the write-ahead log and waits until the object store has it. Otherwise that takes up to five minutes.
async fn archive_log(cluster: &TestCluster) {
    let sql = async |sql: &str| {
        let psql = ["exec", "pings-postgres-1", "--container=postgres", "--", "psql", "-tAc", sql];
        cluster.kubectl(&psql).await.trim().to_owned()
    };
    let segment = sql("SELECT pg_walfile_name(pg_switch_wal())").await;
    let archived = async || sql("SELECT last_archived_wal FROM pg_stat_archiver").await >= segment;
    cluster.wait_until(&format!("segment {segment} in the archive"), Duration::from_secs(120), archived).await;
}

/// Deletes a pipeline with its data.
async fn delete(cluster: &TestCluster, pipeline: &str) {
    cluster.kubectl(&["delete", "pingpipeline", pipeline, "--wait=false"]).await;
    let postgres = format!("{pipeline}-postgres");
    let selector = format!("--selector=cnpg.io/cluster={postgres}");
    let gone = async || {
        let kept = cluster.json(&["get", "pingpipelines,clusters.postgresql.cnpg.io,objectstores"]).await;
        let volumes = cluster.json(&["get", "persistentvolumeclaims", &selector]).await;
        let mut names = at(&kept, "/items").as_array().into_iter().flatten().map(|object| at(object, "/metadata/name"));
        !names.any(|name| *name == pipeline || *name == postgres)
            && at(&volumes, "/items").as_array().is_some_and(Vec::is_empty)
    };
    cluster.wait_until(&format!("deletion of {pipeline}"), TIMEOUT, gone).await;
}
