//! `pingctl watch`

use crate::programs::Server;

#[test]
fn a_watch_prints_a_line_for_each_answer() {
    let server = Server::start();
    server.ctl("ping -n 7").text(0);
    let text = server.ctl("watch --interval 500ms --times 3").text(0);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[2].starts_with("20") && lines[2].contains("  7 events  ") && lines[2].contains("/s  lag "), "{text}");
}

#[test]
fn a_watch_prints_json_objects() {
    let server = Server::start();
    let text = server.ctl("watch --interval 50ms --times 2 --json").text(0);
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert_eq!(
            (&line["count"]["pingCount"], &line["database"]),
            (&"0".into(), &"COMPONENT_STATE_AVAILABLE".into())
        );
    }
}

#[test]
fn ctrl_c_ends_a_watch_with_0() {
    let server = Server::start();
    let mut watch = server.start_ctl("watch --interval 50ms");
    watch.line_with("0 events");
    watch.interrupt();
    watch.wait().text(0);
}

#[test]
fn a_watch_waits_for_an_unavailable_server() {
    let server = Server::start();
    let port = server.port();
    let mut watch = server.start_ctl("watch --interval 50ms --retries 0");
    watch.line_with("0 events");
    drop(server);
    watch.line_with("cannot reach");
    let server = Server::start_at(port);
    server.ctl("ping").text(0);
    watch.line_with("  1 event  ");
}

#[test]
fn a_watch_that_ends_without_a_server_exits_with_3() {
    let server = Server::start();
    let mut watch = server.start_ctl("watch --interval 100ms --retries 0 --times 5");
    watch.line_with("0 events");
    drop(server);
    watch.line_with("cannot reach");
    let finished = watch.wait();
    assert!(finished.stderr_after_output(3).contains("cannot reach"));
}
