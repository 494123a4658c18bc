//! The embedded mode while its disk takes no more data. A limit of the size of files stands for the disk: it needs no root.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::processes::{Pingd, TIMEOUT, program};

/// Limits the size of files that the process writes.
fn limit_files(pingd: &Pingd, bytes: &str) {
    let limit = [format!("--pid={}", pingd.pid()), format!("--fsize={bytes}:")];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
}

#[tokio::test]
async fn a_disk_that_was_full_takes_events_again_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (script, data) = (folder.path().join("pingd"), folder.path().join("data"));
    // Beyond the limit, a write fails instead of ending the process.
    let text = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\" --data '{}'\n", program(), data.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let pingd = Pingd::start_build(script.to_str().unwrap(), "dev", Vec::new()).await;
    pingd.ping(json!({})).await;
    pingd.wait_for_count(1).await;

    // The write-ahead log cannot grow, so the next commit fails.
    limit_files(&pingd, &fs::metadata(data.join("pings.db-wal")).unwrap().len().to_string());
    let ping = json!({"eventId": Uuid::now_v7(), "timestampMs": 1_728_926_331_000_i64});
    let (status, answer) = pingd.call("Ping", &ping).await.unwrap();
    assert!(status == 503 || status == 429, "{status} {answer}");

    limit_files(&pingd, "unlimited");
    let started = Instant::now();
    while pingd.call("Ping", &ping).await.unwrap().0 != 200 {
        assert!(started.elapsed() < TIMEOUT, "{}", pingd.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
    pingd.wait_for_count(2).await;
    let (status, verified) = pingd.verify().await;
    assert_eq!((status, &verified["exact"], &verified["rows"]), (200, &json!(true), &json!("2")), "{verified}");
    pingd.wait_ready().await;
}
