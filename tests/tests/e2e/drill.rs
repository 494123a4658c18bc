//! `kubectl pingpipeline drill`, as a platform engineer runs it.

use std::time::Duration;

use serde_json::Value;

use crate::stage::{PIPELINE, Stage};

/// How long the pipeline may take to be Exact and Fresh after it became Ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Without leave nothing happens; pods are killed, the cache is emptied; a cut that nobody enforces proves nothing.
pub(crate) async fn all(stage: &Stage) {
    stage
        .until("Exact and Fresh", PATIENCE, async || stage.is_true("Exact").await && stage.is_true("Fresh").await)
        .await;
    assert_eq!(drill(stage, &["flush", PIPELINE]).await.0, 2, "done without --yes");
    for order in [&["kill", "--times=3"][..], &["flush", "--times=1"]] {
        let (code, verdict) = drill(stage, &[order, &[PIPELINE, "--yes"]].concat()).await;
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        println!("drill {order:?}: {verdict}");
        assert_eq!((code, &verdict["verdict"]), (0, &Value::from("exact")));
        assert!(verdict["acknowledged"].as_u64().unwrap() > 0, "{verdict}");
    }
    let policy = || async { stage.json(&["get", "networkpolicy", "demo-processor"]).await["spec"]["egress"].clone() };
    let before = policy().await;
    let (code, verdict) = drill(stage, &["partition", PIPELINE, "--times=1", "--for=6", "--yes"]).await;
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    println!("drill partition: {verdict}");
    // There is no network plugin here that enforces anything.
    assert_eq!((code, &verdict["verdict"], &verdict["lost"]), (1, &"inconclusive".into(), &0.into()));
    assert_eq!(policy().await, before, "the way out is not mended");
}

/// Exit code, and what it says as JSON.
async fn drill(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let output = stage.plugin(&[&["--output=json", "drill"], arguments].concat()).await;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}
