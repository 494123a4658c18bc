//! `compose.yaml` and `examples/nginx.conf`: the services start on this machine as the file says, with its commands, environment and health
//! checks, and count through nginx. Only addresses differ, because there is no container engine: each service has a port of its own.
#![cfg(test)]

mod file;
mod nginx;
mod services;

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use file::Compose;
use nginx::Nginx;
use ping_testbed::Parts;
use serde_json::{Value, json};
use services::{Service, pingctl};
use tokio::{process::Command, time::sleep};

const TIMEOUT: Duration = Duration::from_secs(120);
const TUTORIAL: &str = include_str!("../../../docs/tutorials/compose.md");

/// Sends an event through nginx until it is accepted; returns the number of failed attempts. With its id, it counts once.
async fn event(nginx: &Nginx, id: u32) -> usize {
    let body = json!({"eventId": format!("018f4e3c-7b1a-7cc0-8000-{id:012}")});
    let started = Instant::now();
    let mut failed = 0;
    while !matches!(nginx.call("EventService/Record", &body).await, Some((200, _))) {
        failed += 1;
        assert!(started.elapsed() < TIMEOUT, "event {id} is not accepted");
        sleep(Duration::from_millis(50)).await;
    }
    failed
}

async fn count(nginx: &Nginx) -> i64 {
    let (status, answer) = nginx.call("PingService/PingCount", &json!({"strong": true})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    answer["pingCount"].as_str().unwrap().parse().unwrap()
}

async fn counted(nginx: &Nginx, expected: i64) {
    let expected = expected.to_string();
    let started = Instant::now();
    loop {
        let answer =
            nginx.call("PingService/PingCount", &json!({})).await.map(|(_, answer)| answer).unwrap_or_default();
        if answer["pingCount"].as_str() == Some(expected.as_str()) && answer["store"] == "STORE_CACHE" {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "{answer}, not {expected}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipeline_counts_through_nginx_by_http_and_grpc() {
    let mut compose = Compose::read();
    let parts = Parts::start().await.unwrap();
    compose.place("postgres:5432", &format!("127.0.0.1:{}", parts.postgres.port()));
    compose.place("kafka:9092", &parts.kafka.brokers());
    compose.place("dragonfly:6379", parts.redis.url().trim_start_matches("redis://"));
    let mut servers = [compose.service("server-1"), compose.service("server-2")];
    let processors = [compose.service("processor-1"), compose.service("processor-2")];
    compose.service("migrate").run_to_its_end().await;
    for service in servers.iter_mut() {
        service.start();
    }
    let _processors = processors.map(Service::started);
    for service in &servers {
        service.wait_until_healthy().await;
    }
    let nginx = Nginx::start(&compose).await;

    let mut sent = 0;
    for id in 0..20 {
        assert_eq!(event(&nginx, id).await, 0, "a healthy pipeline accepts every event");
        sent += 1;
    }
    // gRPC: unary calls, and streams with an acknowledgement for each batch.
    for mode in ["unary", "stream"] {
        let arguments =
            ["load", "--rate", "500/s", "--duration", "1s", "--mode", mode, "--batch", "50", "--check", "--json"];
        let report: Value = serde_json::from_str(&pingctl(&nginx.grpc, &arguments).await).unwrap();
        let acknowledged = report["acknowledged"].as_i64().unwrap_or_else(|| panic!("{report}"));
        assert_eq!(acknowledged, 500, "{report}");
        sent += acknowledged;
    }
    counted(&nginx, sent).await;
    for server in &servers {
        assert!(server.requests().await > 5, "nginx sends requests to both servers");
    }
    assert!(nginx.page().await.contains("<title>"), "the page is served");

    // Without one server, the other answers.
    servers[0].kill().await;
    for id in 100..120 {
        event(&nginx, id).await;
        sent += 1;
    }
    assert_eq!(count(&nginx).await, sent);
    counted(&nginx, sent).await;
    tutorial(&nginx, sent).await;
}

/// Runs the commands of the tutorial that use the API.
async fn tutorial(nginx: &Nginx, before: i64) {
    let commands: Vec<_> = TUTORIAL.split("```sh\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for block in commands {
        let script = block.replace("localhost:8080", &nginx.http).replace("localhost:8090", &nginx.grpc);
        let mut command = Command::new("bash");
        command.args(["-euc", &script]).env("PATH", services::path());
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{block}{output:?}");
    }
    counted(nginx, before + 2).await;
}

#[tokio::test]
async fn the_profile_in_memory_needs_nothing_else() {
    let mut compose = Compose::read();
    assert_eq!(compose.text("memory", "/profiles/0"), "memory");
    assert!(compose.value("memory")["depends_on"].is_null());
    let memory = compose.service("memory").started();
    memory.wait_until_healthy().await;
    pingctl(&memory.api, &["ping"]).await;
    let started = Instant::now();
    while pingctl(&memory.api, &["count"]).await.split_whitespace().next() != Some("1") {
        assert!(started.elapsed() < TIMEOUT);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(memory.folder_is_empty(), "nothing is written to disk");
}

#[test]
fn the_file_agrees_with_itself_and_with_the_repository() {
    let compose = Compose::read();
    let names: BTreeSet<_> = compose.names().collect();
    for name in &names {
        let service = compose.value(name);
        for (on, _) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(names.contains(on), "{name} depends on {on}");
        }
        if let Some(image) = service["image"].as_str().unwrap().strip_prefix("pingpipeline/") {
            assert_eq!(image, concat!("pingd:", env!("CARGO_PKG_VERSION")));
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(from);
            assert!(!from.starts_with('.') || file.exists(), "{from} is missing");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(
                port.as_str().unwrap().starts_with("127.0.0.1:"),
                "{name} is reachable from other machines: {port}"
            );
        }
    }
}
