//! The examples of `examples/` against an embedded server that is killed meanwhile: each prints the right count.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

#[path = "pipeline/processes.rs"]
mod processes;

use std::{path::Path, process::Stdio, time::Duration};

use processes::{Pingd, program};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/run.sh");
/// Events of a stream: enough that it is not over when the first are counted.
const EVENTS: i64 = 50_000;
const ID: &str = "018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f";

/// An embedded server whose events survive a kill.
async fn server() -> (Pingd, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap().to_owned();
    (Pingd::dev(&["--data", &data, "--log", "warn"]).await, folder)
}

/// The example `name` in a language: Cargo builds those in Rust, the script the others.
fn example(language: &str, name: &str) -> Command {
    let mut command = if language == "rust" {
        let built = Path::new(&program()).with_file_name("examples").join(format!("ping-{name}"));
        assert!(built.exists(), "{} is missing; run `cargo build --workspace --examples` first", built.display());
        Command::new(built)
    } else {
        let mut command = Command::new(SCRIPT);
        command.args(["example", language, name]);
        command
    };
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What an example printed.
async fn printed(example: Child) -> String {
    let output = timeout(processes::TIMEOUT, example.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn counts_once(language: &str) {
    let (mut server, _folder) = server().await;
    for _ in 0..2 {
        assert_eq!(
            printed(example(language, "count").args([&server.api, ID]).spawn().unwrap()).await,
            "1",
            "{language}"
        );
    }
    server.kill_9().await;
    let waiting = example(language, "count").arg(&server.api).spawn().unwrap();
    sleep(Duration::from_millis(500)).await;
    server.restart();
    assert_eq!(printed(waiting).await, "2", "{language}: it tries again until the server is there");
}

async fn resumes_its_stream(language: &str) {
    let (mut server, _folder) = server().await;
    let mut streaming = example(language, "stream").args([&server.api, &EVENTS.to_string()]).spawn().unwrap();
    // The first run installs the language's packages.
    while server.count(json!({"strong": true})).await.0 == 0 {
        assert!(streaming.try_wait().unwrap().is_none(), "{language}: {}", printed(streaming).await);
        sleep(Duration::from_millis(5)).await;
    }
    server.kill_9().await;
    assert!(streaming.try_wait().unwrap().is_none(), "{language} was done before the server was killed");
    server.restart();
    assert_eq!(printed(streaming).await, EVENTS.to_string(), "{language}");
    assert_eq!(server.verify().await.1["exact"], true);
}

async fn are_exact(language: &str) {
    counts_once(language).await;
    resumes_its_stream(language).await;
}

#[tokio::test]
async fn the_examples_in_go_are_exact_although_the_server_is_killed() {
    are_exact("go").await;
}

#[tokio::test]
async fn the_examples_in_python_are_exact_although_the_server_is_killed() {
    are_exact("python").await;
}

#[tokio::test]
async fn the_examples_in_typescript_are_exact_although_the_server_is_killed() {
    are_exact("typescript").await;
}

#[tokio::test]
async fn the_examples_in_java_are_exact_although_the_server_is_killed() {
    are_exact("java").await;
}

#[tokio::test]
async fn the_examples_in_rust_are_exact_although_the_server_is_killed() {
    are_exact("rust").await;
}
