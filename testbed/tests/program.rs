//! The program `testbed` as used from a shell.
#![expect(clippy::unwrap_used, reason = "clippy.toml allows them in tests, not in their helpers")]

use std::{
    net::{SocketAddr, TcpStream},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use ping_testbed::pid::Pid;
use rustix::process::Signal;

fn testbed(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    command.args(args).stdin(Stdio::null());
    command
}

fn outcome(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = testbed(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn listens(address: &str) -> bool {
    TcpStream::connect_timeout(&address.parse::<SocketAddr>().unwrap(), Duration::from_secs(1)).is_ok()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    // On two cores that also run other tests.
    let deadline = Instant::now() + Duration::from_secs(180);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn up_leaves_the_parts_running_until_down() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let (code, lines, errors) = outcome(&["up", "--dir", folder]);
    assert_eq!(code, Some(0), "{errors}");
    let names: Vec<&str> = lines.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names, ["export PING_POSTGRES_URL", "export PING_KAFKA_BROKERS", "export PING_CACHE_URL"]);
    let brokers = lines.lines().nth(1).unwrap().split_once('=').unwrap().1;
    assert!(listens(brokers));

    assert_eq!(outcome(&["up", "--dir", folder]).1, lines, "a second `up` changes nothing");
    assert_eq!(outcome(&["down", "--dir", folder]).0, Some(0));
    assert!(!listens(brokers));
    assert_eq!(outcome(&["down", "--dir", folder]).0, Some(0), "a second `down` succeeds");
}

#[test]
fn run_passes_the_environment_in_and_the_exit_code_out() {
    let (code, printed, errors) = outcome(&["run", "--", "sh", "-c", "echo $PING_KAFKA_BROKERS; exit 7"]);
    assert_eq!(code, Some(7), "{errors}");
    assert!(!listens(printed.trim()), "the parts are stopped");
}

#[test]
fn run_reports_a_missing_command() {
    let (code, _, errors) = outcome(&["run", "no-such-command"]);
    assert_eq!(code, Some(127));
    assert!(errors.contains("cannot run no-such-command"), "{errors}");
}

#[test]
fn a_terminated_run_stops_its_command_and_the_parts() {
    let (mut run, brokers, command) = start_run();
    Pid::of(run.id()).unwrap().signal(Signal::TERM);
    assert_eq!(run.wait().unwrap().code(), Some(128 + 15));
    assert!(!command.is_running() && !listens(&brokers));
}

#[test]
fn the_parts_of_a_killed_run_die_with_it() {
    let (mut run, brokers, command) = start_run();
    let parts = Pid::of(run.id()).unwrap().descendants();
    run.kill().unwrap();
    run.wait().unwrap();
    // Its command keeps running because it is not a part.
    command.signal(Signal::KILL);
    eventually("the parts die", || parts.iter().all(|part| !part.is_running()));
    assert!(!listens(&brokers));
}

/// Starts `testbed run` with a command that sleeps; returns it with the broker's address and the command's process.
fn start_run() -> (std::process::Child, String, Pid) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("started");
    let script = format!("echo $$ $PING_KAFKA_BROKERS > {0}.part; mv {0}.part {0}; exec sleep 1000", file.display());
    let run = testbed(&["run", "--", "sh", "-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the command starts", || file.exists());
    let text = std::fs::read_to_string(&file).unwrap();
    let (command, brokers) = text.trim().split_once(' ').unwrap();
    (run, brokers.to_owned(), Pid::of(command.parse().unwrap()).unwrap())
}

#[test]
fn a_missing_part_is_reported_with_the_command_that_installs_it() {
    let empty = tempfile::tempdir().unwrap();
    let output = testbed(&["run", "true"]).env("XDG_CACHE_HOME", empty.path()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(errors.contains("Kafka is missing in") && errors.contains("run testbed/install.sh parts"), "{errors}");
}
