//! `pingctl load`

use std::{thread::sleep, time::Duration};

use serde_json::Value;

use crate::programs::{Server, free_port, pingctl};

fn number(report: &Value, field: &str) -> f64 {
    report.pointer(field).unwrap().as_f64().unwrap()
}

#[test]
fn a_fixed_rate_is_kept_and_every_event_counted() {
    let server = Server::start();
    let report = server.ctl("load --rate 500/s --duration 1s --connections 2 --check --json").json(0);
    let acknowledged = number(&report, "/acknowledged");
    assert_eq!(acknowledged + number(&report, "/not_sent"), 500.0, "{report}");
    assert!(number(&report, "/rate") <= 500.0 && number(&report, "/seconds") >= 1.0, "{report}");
    assert_eq!((&report["check"]["verdict"], &report["check"]["grew"]), (&"exact".into(), &report["acknowledged"]));
    assert_eq!((number(&report, "/latency_samples"), &report["errors"]), (acknowledged, &serde_json::json!({})));
    server.verify("").text(0);
}

#[test]
fn every_call_is_in_the_history() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let path = folder.path().join("history");
    let load = format!("load --rate 500/s --duration 500ms --check --json --history {}", path.display());
    let report = server.ctl(&load).json(0);
    let calls: Vec<Value> =
        std::fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(calls.len() as f64, number(&report, "/acknowledged"));
    for call in calls {
        assert_eq!(
            (&call["outcome"], call["event_id"].as_str().unwrap().len()),
            (&"acknowledged".into(), 36),
            "{call}"
        );
        assert!(call["began_us"].as_i64() <= call["ended_us"].as_i64(), "{call}");
    }
    let refused = server.ctl("load --mode stream --history /tmp/never-written").stderr(2);
    assert!(refused.contains("--history needs unary calls with ids"), "{refused}");
    let refused = server.ctl("load --history /no/such/folder/history").stderr(5);
    assert!(refused.contains("cannot write the history to /no/such/folder/history"), "{refused}");
}

#[test]
fn a_load_at_maximum_rate_ends_by_itself_and_reports() {
    let server = Server::start();
    let text = server.ctl("load --rate max --duration 300ms --in-flight 8 --no-ids --check").text(0);
    for part in ["events   ", " acknowledged in 0.3", "max rate", "p99.9", "errors   none", "the count grew by exactly"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_stream_carries_batches_with_ids_and_without() {
    let server = Server::start();
    for ids in ["--ids", "--no-ids --sources 0"] {
        let load =
            format!("load --mode stream --rate 20k --batch 100 --duration 500ms --connections 2 --check --json {ids}");
        let report = server.ctl(&load).json(0);
        assert_eq!(number(&report, "/acknowledged") + number(&report, "/not_sent"), 10_000.0, "{report}");
        assert_eq!(number(&report, "/latency_samples") * 100.0, number(&report, "/acknowledged"), "{report}");
        assert_eq!(report["check"]["holds"], true);
    }
    let report = server.ctl("load --mode stream --rate max --duration 300ms --threads 2 --check --json").json(0);
    assert!(number(&report, "/acknowledged") > 0.0, "{report}");
}

/// If latency were measured from when an event is sent, only the events in flight would show the pause.
#[test]
fn a_pause_of_the_server_is_in_the_percentiles() {
    let server = Server::start();
    let load = server.start_ctl("load --rate 1000/s --duration 2s --in-flight 4 --check --json");
    server.wait_for_events();
    server.signal("STOP");
    sleep(Duration::from_millis(600));
    server.signal("CONT");
    let report = load.wait().json(0);
    assert!(number(&report, "/latency_ms/p95") > 250.0 && number(&report, "/latency_ms/max") > 500.0, "{report}");
    assert_eq!(number(&report, "/acknowledged") + number(&report, "/not_sent"), 2000.0, "{report}");
}

#[test]
fn a_server_that_cannot_keep_up_leaves_events_unsent() {
    let server = Server::start();
    let load = server.start_ctl("load --rate 1000/s --duration 1s --in-flight 4 --json");
    server.wait_for_events();
    server.signal("STOP");
    sleep(Duration::from_millis(1500));
    server.signal("CONT");
    let report = load.wait().json(0);
    let not_sent = number(&report, "/not_sent");
    assert!(not_sent > 100.0 && number(&report, "/acknowledged") + not_sent == 1000.0, "{report}");
}

#[test]
fn batches_that_are_not_acknowledged_are_sent_again_with_the_same_ids() {
    let server = Server::start();
    let load = "load --mode stream --rate 5000/s --batch 50 --duration 1s --timeout 300ms --retries 20";
    let load = server.start_ctl(&format!("{load} --ids --check --json"));
    server.wait_for_events();
    server.signal("STOP");
    sleep(Duration::from_millis(500));
    server.signal("CONT");
    let report = load.wait().json(0);
    assert!(number(&report, "/retries") > 0.0 && number(&report, "/errors/deadline_exceeded") > 0.0, "{report}");
    assert_eq!((&report["unknown"], &report["check"]["holds"]), (&0.into(), &true.into()), "{report}");
}

#[test]
fn a_server_that_dies_leaves_outcomes_unknown() {
    let server = Server::start();
    let load = server.start_ctl("load --mode stream --rate max --duration 2s --retries 1 --json");
    server.wait_for_events();
    drop(server);
    let report = load.wait().json(3);
    assert!(number(&report, "/unknown") > 0.0 && number(&report, "/errors/unavailable") > 0.0, "{report}");
}

#[test]
fn ctrl_c_ends_a_load_early_with_a_report() {
    let server = Server::start();
    let load = server.start_ctl("load --rate 1000/s --duration 1h --json --check");
    server.wait_for_events();
    load.interrupt();
    let report = load.wait().json(0);
    assert!((1.0..30_000.0).contains(&number(&report, "/acknowledged")), "{report}");
}

#[test]
fn a_load_on_another_machine_needs_a_flag() {
    let error = pingctl("load --addr 192.0.2.1:8080 --json").error(2);
    assert!(error["error"]["message"].as_str().unwrap().contains("--yes-this-is-my-server"), "{error}");
    let text = pingctl(&format!("load --addr localhost:{} --retries 0", free_port())).stderr(3);
    assert!(text.contains("cannot reach"), "{text}");
}
