//! The examples of `examples/` against a server that is killed meanwhile, embedded and with real parts: each prints the right count.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "a test binary has no callers")]

#[path = "pipeline/processes.rs"]
mod processes;

use std::{path::Path, process::Stdio, time::Duration};

use processes::{Pingd, pipeline, program};
use serde_json::json;
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};
use uuid::Uuid;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/run.sh");
/// Events of a stream: enough that it is not over when the first are counted.
const EVENTS: i64 = 50_000;

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

/// Sends an event twice with one id, then one to a server that is down. `before` is the number of events that the server has.
async fn counts_once(language: &str, server: &mut Pingd, before: i64) -> i64 {
    let id = Uuid::now_v7().to_string();
    for _ in 0..2 {
        let count = example(language, "count").args([&server.api, &id]).spawn().unwrap();
        assert_eq!(printed(count).await, (before + 1).to_string(), "{language}");
    }
    server.kill_9().await;
    let waiting = example(language, "count").arg(&server.api).spawn().unwrap();
    sleep(Duration::from_millis(500)).await;
    server.restart();
    assert_eq!(
        printed(waiting).await,
        (before + 2).to_string(),
        "{language}: it tries again until the server is there"
    );
    before + 2
}

/// Kills the server in the middle of a stream.
async fn resumes_its_stream(language: &str, server: &mut Pingd, before: i64) -> i64 {
    server.wait_ready().await;
    let mut streaming = example(language, "stream").args([&server.api, &EVENTS.to_string()]).spawn().unwrap();
    while server.count(json!({"strong": true})).await.0 == before {
        assert!(streaming.try_wait().unwrap().is_none(), "{language}: {}", printed(streaming).await);
        sleep(Duration::from_millis(5)).await;
    }
    server.kill_9().await;
    assert!(streaming.try_wait().unwrap().is_none(), "{language} was done before the server was killed");
    server.restart();
    assert_eq!(printed(streaming).await, (before + EVENTS).to_string(), "{language}");
    before + EVENTS
}

async fn are_exact(language: &str) {
    let (mut server, _folder) = server().await;
    let counted = counts_once(language, &mut server, 0).await;
    resumes_its_stream(language, &mut server, counted).await;
    assert_eq!(server.verify().await.1["exact"], true);
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

/// One pipeline for all languages: its parts take longer to start than the examples to run.
#[tokio::test]
async fn the_examples_are_exact_on_real_parts_although_the_server_is_killed_and_send_ids_that_can_be_dropped() {
    let (parts, mut server, _processor) = pipeline().await;
    let mut counted = 0;
    for language in ["go", "python", "typescript", "java", "rust"] {
        counted = counts_once(language, &mut server, counted).await;
        counted = resumes_its_stream(language, &mut server, counted).await;
    }
    server.wait_for_count(counted).await;
    assert_eq!(server.verify().await.1["exact"], true);
    let mut postgres = sqlx::PgConnection::connect(&parts.postgres.url()).await.unwrap();
    let without_day = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM events WHERE event_id_day(id) < 0");
    assert_eq!(without_day.fetch_one(&mut postgres).await.unwrap(), 0);
}
