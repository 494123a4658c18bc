//! Runs `kubectl pingpipeline drill` as a platform engineer would.

use std::time::Duration;

use serde_json::Value;

use crate::test_cluster::{PIPELINE, TestCluster};

/// How long the pipeline may take to become Exact and Fresh after it is Ready.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Requires --yes; kills pods; flushes the cache; partitions the network.
pub(crate) async fn all(cluster: &TestCluster) {
    cluster
        .wait_until("Exact and Fresh", TIMEOUT, async || {
            cluster.is_true("Exact").await && cluster.is_true("Fresh").await
        })
        .await;
    assert_eq!(drill(cluster, &["flush", PIPELINE]).await.0, 2, "ran without --yes");
    for drill_args in [&["kill", "--times=3"][..], &["flush", "--times=1"]] {
        let (code, verdict) = drill(cluster, &[drill_args, &[PIPELINE, "--yes"]].concat()).await;
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        println!("drill {drill_args:?}: {verdict}");
        assert_eq!((code, &verdict["verdict"]), (0, &Value::from("exact")));
        assert!(verdict["acknowledged"].as_u64().unwrap() > 0, "{verdict}");
    }
    let policy = || async { cluster.json(&["get", "networkpolicy", "demo-processor"]).await["spec"]["egress"].clone() };
    let before = policy().await;
    for target in ["kafka", "cache"] {
        let partition = ["partition", PIPELINE, "--target", target, "--times=1", "--for=10", "--yes"];
        let (code, verdict) = drill(cluster, &partition).await;
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        println!("drill partition from {target}: {verdict}");
        assert_eq!((code, &verdict["verdict"]), (0, &Value::from("exact")), "{verdict}");
        assert_eq!(policy().await, before, "the network policy was not restored");
    }
}

/// Exit code and JSON output.
async fn drill(cluster: &TestCluster, arguments: &[&str]) -> (i32, String) {
    let output = cluster.plugin(&[&["--output=json", "drill"], arguments].concat()).await;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}
