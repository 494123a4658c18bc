//! Formats of the output, the manual, and what a terminal shows.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::programs::{Server, pingctl};

/// Runs `pingctl` at a terminal of 50 columns, and returns what it shows.
fn at_a_terminal(arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_pingctl");
    let line = format!("stty cols 50 rows 24; {program} {arguments}");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("PINGCTL_CONFIG", "/nonexistent/config.yaml").env("TERM", "xterm");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap().replace('\r', "");
    console::strip_ansi_codes(&shown).into_owned()
}

/// A server with events of two sources, once the views have them.
fn with_sources() -> Server {
    let server = Server::start();
    server.ctl("ping -n 1200 --source a-source-with-a-name-that-is-longer-than-the-terminal.example.com").text(0);
    server.ctl("ping --source b").text(0);
    let begun = std::time::Instant::now();
    while server.ctl("top -o name").text(0).lines().count() < 2 {
        assert!(begun.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    server
}

#[test]
fn tables_fit_the_terminal_and_are_tab_separated_in_pipes() {
    let server = with_sources();
    let address = format!("--addr 127.0.0.1:{}", server.port());
    let shown = at_a_terminal(&format!("top {address}"));
    assert!(shown.lines().all(|line| line.chars().count() <= 50), "{shown}");
    assert!(shown.contains("1,200") && shown.contains("exact as of"), "{shown}");
    let piped = server.ctl("top").text(0);
    let expected = "source\tevents\na-source-with-a-name-that-is-longer-than-the-terminal.example.com\t1200\nb\t1\n";
    assert_eq!(piped, expected);
}

#[test]
fn help_fits_the_terminal_and_groups_options() {
    let shown = at_a_terminal("count --help");
    assert!(shown.lines().all(|line| line.chars().count() <= 50 || line.starts_with("  pingctl ")), "{shown}");
    let long = pingctl("count --help").text(0);
    for heading in ["Global options:", "Connection options:", "--tls-server-name", "Examples:"] {
        assert!(long.contains(heading), "{heading} is not in {long}");
    }
    let short = pingctl("count -h").text(0);
    assert!(short.contains("--addr") && !short.contains("--tls-server-name"), "{short}");
}

#[test]
fn json_and_yaml_are_those_of_the_api() {
    let server = with_sources();
    let same = |command: &str, method: &str, body: &str, fields: &[&str]| {
        let (ctl, curl) = (server.ctl(&format!("{command} -o json")).json(0), server.curl(method, body));
        for field in fields {
            assert!(!curl[field].is_null() && ctl[field] == curl[field], "{command}: {field}: {ctl} {curl}");
        }
        let yaml = server.ctl(&format!("{command} -o yaml")).text(0);
        let yaml: Value = yaml_serde::from_str(&yaml).unwrap();
        assert!(fields.iter().all(|field| yaml[field] == curl[field]), "{command}: {yaml} {curl}");
    };
    same("count", "PingService/PingCount", "{}", &["pingCount", "exact", "store"]);
    same("source b", "SourceService/SourceStats", r#"{"source": "b"}"#, &["count", "kinds", "last24h", "firstSeenMs"]);
    same("status b", "SourceService/GetStatus", r#"{"source": "b"}"#, &["status", "verdict", "final"]);
    same("top", "SourceService/TopSources", "{}", &["sources"]);
    let day = server.ctl("series --from 2026-01-01 --to 2026-01-03 --step day -o json").json(0);
    assert_eq!(day["points"][0]["count"], "0");
}

#[test]
fn names_are_one_per_line() {
    let server = with_sources();
    let names = |command: &str| server.ctl(&format!("{command} -o name")).text(0);
    assert_eq!(names("top -n 1"), "a-source-with-a-name-that-is-longer-than-the-terminal.example.com\n");
    assert_eq!((names("source b").as_str(), names("source nobody").as_str()), ("b\n", ""));
    assert_eq!(names("status b"), "b\n");
    let days = names("series --from 2026-01-01 --to 2026-01-03 --step day");
    assert_eq!(days, "2026-01-01T00:00:00.000Z\n2026-01-02T00:00:00.000Z\n");
    let id = names("ping");
    assert_eq!(id.trim().len(), 36);
    assert_eq!(names("context list"), "");
    for command in ["count", "watch", "verify", "load", "revoke b", "dead-letters"] {
        let error = server.ctl(&format!("{command} -o name")).stderr(2);
        assert!(error.contains("no names to print") && error.contains("fix: use -o text"), "{error}");
    }
}

#[test]
fn a_live_view_has_the_last_hour_and_the_top_sources() {
    let server = with_sources();
    let shown = at_a_terminal(&format!("watch --times 3 --interval 300ms --addr 127.0.0.1:{}", server.port()));
    for part in ["1,201 events", "database available", "last hour", "top sources", "1,200  a-source-with"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let page = pingctl("man").text(0);
    assert!(page.contains(".TH pingctl 1") && page.contains("doctor"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man1");
    pingctl(&format!("man --folder {}", path.display())).text(0);
    for name in ["pingctl.1", "pingctl-count.1", "pingctl-doctor.1", "pingctl-context-use.1"] {
        assert!(path.join(name).exists(), "{name}");
    }
    let lines = Command::new("man").args(["-l", &path.join("pingctl-count.1").display().to_string()]).output();
    // Not every machine has `man`.
    assert!(lines.is_err() || lines.unwrap().status.success());
    let error = pingctl(&format!("man --folder {}", Path::new("/proc/nothing").display())).stderr(5);
    assert!(error.contains("cannot write the pages into /proc/nothing"), "{error}");
}
