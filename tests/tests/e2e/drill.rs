//! Runs `kubectl pingpipeline drill` as a platform engineer would.

use std::time::Duration;

use serde_json::Value;

use crate::test_cluster::{NAMESPACE, PIPELINE, TestCluster, holds};

/// How long the pipeline may take to become Exact and Fresh after it is Ready.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Requires --yes; kills pods; flushes the cache; partitions the network.
pub(crate) async fn all(cluster: &TestCluster) {
    wait_until_exact(cluster).await;
    assert_eq!(drill(cluster, &["flush", PIPELINE]).await.0, 2, "ran without --yes");
    for drill_args in [&["kill", "--times=3"][..], &["flush", "--times=1"]] {
        let (code, verdict) = drill(cluster, &[drill_args, &[PIPELINE, "--yes"]].concat()).await;
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        println!("drill {drill_args:?}: {verdict}");
        assert_eq!((code, &verdict["verdict"]), (0, &Value::from("exact")));
        assert!(verdict["acknowledged"].as_u64().unwrap() > 0, "{verdict}");
    }
    let before = egress(cluster).await;
    for target in ["kafka", "cache"] {
        let partition = ["partition", PIPELINE, "--target", target, "--times=1", "--for=10", "--yes"];
        let (code, verdict) = drill(cluster, &partition).await;
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        println!("drill partition from {target}: {verdict}");
        assert_eq!((code, &verdict["verdict"]), (0, &Value::from("exact")), "{verdict}");
        assert_eq!(egress(cluster).await, before, "the network policy was not restored");
    }
}

/// Slows connections and a disk; refuses to fill a disk that others share; removes what a killed drill left.
pub(crate) async fn delays_and_disks(cluster: &TestCluster) {
    let once = ["--times=1", "--for=10", "--yes", PIPELINE];
    for fault in [
        &["delay", "--target=postgres", "--milliseconds=100"][..],
        &["delay", "--target=cache"],
        &["delay", "--from=processor", "--target=kafka"],
        &["disk", "--target=postgres"],
        &["disk", "--target=kafka"],
    ] {
        wait_until_exact(cluster).await;
        let (code, verdict) = drill(cluster, &[fault, &once].concat()).await;
        println!("drill {fault:?}: {verdict}");
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        assert_eq!((code, &verdict["verdict"]), (0, &Value::from("exact")), "{verdict}");
        assert_eq!(hops(cluster).await, 0, "a hop is left");
    }
    // The volumes are folders of this machine.
    wait_until_exact(cluster).await;
    let full = cluster.plugin(&[&["drill", "disk", "--how=full"], &once[..]].concat()).await;
    let error = String::from_utf8(full.stderr).unwrap();
    assert!(full.status.code() == Some(2) && error.contains("which others share"), "{error}");
    a_killed_drill_is_undone(cluster).await;
}

async fn a_killed_drill_is_undone(cluster: &TestCluster) {
    wait_until_exact(cluster).await;
    // Dropped, it is killed.
    tokio::select! {
        output = cluster.plugin(&["drill", "delay", PIPELINE, "--for=600", "--yes"]) => panic!("ended: {output:?}"),
        () = cluster.wait_until("a hop", TIMEOUT, async || hops(cluster).await > 0) => {}
    }
    for removed in ["[\"demo-server\"]", "[]"] {
        let (code, undone) = drill(cluster, &["undo", PIPELINE]).await;
        assert_eq!((code, undone.trim()), (0, &*format!("{{\"removedFrom\":{removed},\"resumed\":false}}")));
        assert_eq!(hops(cluster).await, 0);
    }
    cluster.cluster.wait_until_ready(NAMESPACE, "deployment/demo-server").await.unwrap();
    wait_until_exact(cluster).await;
    let before = egress(cluster).await;
    tokio::select! {
        output = cluster.plugin(&["drill", "partition", PIPELINE, "--for=600", "--yes"]) => panic!("ended: {output:?}"),
        () = cluster.wait_until("a partition", TIMEOUT, async || egress(cluster).await != before) => {}
    }
    let (code, undone) = drill(cluster, &["undo", PIPELINE]).await;
    assert_eq!((code, undone.trim()), (0, "{\"removedFrom\":[],\"resumed\":true}"));
    cluster.wait_until("the network policy", TIMEOUT, async || egress(cluster).await == before).await;
}

/// What the network policy of the processors allows.
async fn egress(cluster: &TestCluster) -> Value {
    cluster.json(&["get", "networkpolicy", "demo-processor"]).await["spec"]["egress"].clone()
}

/// Containers and names that drills have added to servers and processors.
async fn hops(cluster: &TestCluster) -> usize {
    let deployments = cluster.json(&["get", "deployments", "demo-server", "demo-processor"]).await;
    let pods = deployments["items"].as_array().unwrap().iter().map(|one| &one["spec"]["template"]["spec"]);
    let added = pods.flat_map(|pod| [&pod["initContainers"], &pod["hostAliases"]]);
    added.map(|list| list.as_array().map_or(0, Vec::len)).sum()
}

async fn wait_until_exact(cluster: &TestCluster) {
    let healthy = async || {
        let pipeline = cluster.pipeline().await.unwrap_or_default();
        ["Ready", "Exact", "Fresh"].iter().all(|condition| holds(&pipeline, condition))
    };
    cluster.wait_until("Ready, Exact and Fresh", TIMEOUT, healthy).await;
}

/// Exit code and JSON output.
async fn drill(cluster: &TestCluster, arguments: &[&str]) -> (i32, String) {
    let output = cluster.plugin(&[&["--output=json", "drill"], arguments].concat()).await;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}
