//! Clients that others maintain, with their default settings, against an embedded server: `tests/clients/run.sh`.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

#[path = "pipeline/processes.rs"]
mod processes;

use std::io::Write;

use processes::Pingd;
use tokio::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/run.sh");

/// connect-go by Connect, gRPC and gRPC-Web, over HTTP/1.1 and HTTP/2; grpc-go.
#[tokio::test]
async fn clients_in_go_work_with_their_defaults() {
    every_case_passes("go", 102).await;
}

/// connectrpc by the same protocols, and grpcio.
#[tokio::test]
async fn clients_in_python_work_with_their_defaults() {
    every_case_passes("python", 114).await;
}

/// connect-node with its three transports, connect-web, grpc-js.
#[tokio::test]
async fn clients_in_typescript_work_with_their_defaults() {
    every_case_passes("typescript", 119).await;
}

/// curl and grpcurl.
#[tokio::test]
async fn clients_in_the_shell_work_with_their_defaults() {
    every_case_passes("shell", 28).await;
}

/// Runs the clients of one language against a server of their own. Fewer cases than `expected` mean that some are not run any more.
async fn every_case_passes(language: &str, expected: usize) {
    let mut pingd = Pingd::dev(&["--memory", "--log", "warn"]).await;
    let run = Command::new(SCRIPT).args([&pingd.api, &pingd.admin, language]).kill_on_drop(true).output();
    let output = run.await.unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}{report}\n{}", output.status, pingd.log_tail());
    let passed: usize = report.lines().filter_map(passed).sum();
    assert_eq!(passed, expected, "\n{errors}{report}");
    assert_eq!(pingd.terminate().await, Some(0), "it drains\n{}", pingd.log_tail());
    // Not by `println!`, whose text the test runner shows of failed tests only.
    writeln!(std::io::stdout(), "{passed} cases of clients in {language} passed").unwrap();
}

/// From the last line of each client: `python: 86 passed, 0 failed`.
fn passed(line: &str) -> Option<usize> {
    line.split_once(" passed, ")?.0.rsplit_once(": ")?.1.parse().ok()
}
