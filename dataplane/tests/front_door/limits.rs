//! What one caller may use of the server, and what it learns about it.

use std::time::{Duration, Instant};

use futures::StreamExt;
use ping_client::Client;
use ping_proto::{PingCountRequest, PingRequest, StreamPingsRequest};
use serde_json::json;
use tokio::{io::AsyncWriteExt, time::sleep};

use crate::{
    processes::{EXAMPLE, Pingd, pipeline},
    wire,
};

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn idle_half_open_and_stalled_connections_are_closed() {
    let args = ["--memory", "--header-timeout-seconds", "1", "--idle-timeout-seconds", "2"];
    let pingd = Pingd::dev(&args).await;
    let ping = wire::request("POST", "/ping.v1.PingService/Ping", JSON, b"{}");
    let half_open = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
    let mut in_headers = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
    in_headers.write_all(&ping[..30]).await.unwrap();
    let mut in_body = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
    in_body.write_all(&ping[..ping.len() - 1]).await.unwrap();
    let mut idle = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
    assert_eq!(wire::exchange(&mut idle, &ping).await.0, 200);
    let mut preface = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    for (what, mut connection) in
        [("half open", half_open), ("in headers", in_headers), ("in body", in_body), ("idle", idle), ("h2", preface)]
    {
        assert!(wire::is_closed_within(&mut connection, Duration::from_secs(60)).await, "{what}");
    }
    assert!(pingd.metric("ping_transport_closed_connections_total{reason=\"idle\"}").await >= 1.0);
    assert_eq!(pingd.metric("ping_transport_connections").await, 0.0);
    assert_eq!(pingd.metric("ping_transport_budget_bytes").await, 0.0, "what they held is returned");
}

#[tokio::test]
async fn connections_are_limited_in_total_and_per_address() {
    let args = ["--memory", "--max-connections", "30", "--max-connections-per-address", "20"];
    let pingd = Pingd::dev(&args).await;
    let mut open = Vec::new();
    for (address, attempts) in [("127.0.0.2", 50), ("127.0.0.3", 50)] {
        for _ in 0..attempts {
            open.push(wire::connect(&pingd.api, address).await.unwrap());
        }
    }
    let metric = async |reason: &str| {
        pingd.metric(&format!("ping_transport_closed_connections_total{{reason=\"{reason}\"}}")).await
    };
    let started = Instant::now();
    while metric("address_limit").await + metric("limit").await < 70.0 {
        assert!(started.elapsed() < Duration::from_secs(60), "not all were refused");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((metric("address_limit").await, metric("limit").await), (30.0, 40.0));
    drop(open);
    let started = Instant::now();
    while pingd.metric("ping_transport_connections").await > 0.0 {
        assert!(started.elapsed() < Duration::from_secs(60), "closed connections still count");
        sleep(Duration::from_millis(20)).await;
    }
    pingd.ping(json!({})).await;
}

#[tokio::test]
async fn a_batch_of_empty_events_is_refused_before_it_is_decoded() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let before = pingd.peak_memory();
    let proto = [0x0a, 0x00].repeat(4 * 1024 * 1024);
    let json = format!("{{\"events\":[{}{{}}]}}", "{},".repeat(2_700_000));
    for (kind, body) in [("application/proto", proto), ("application/json", json.into_bytes())] {
        let url = format!("{}/ping.v1.EventService/RecordBatch", pingd.api);
        let answer = reqwest::Client::new().post(url).header("content-type", kind).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{kind}");
        assert!(answer.text().await.unwrap().contains("at most 10000"), "{kind}");
    }
    let grown = pingd.peak_memory() - before;
    assert!(grown < 100 << 20, "the server grew by {grown} bytes");
}

/// Valid batches on one connection whose answers are never read: the server stops reading.
#[tokio::test]
async fn a_stream_whose_answers_are_not_read_is_slowed_down() {
    let pingd = Pingd::dev(&["--memory", "--max-request-memory", "33554432"]).await;
    let before = pingd.peak_memory();
    let ping = PingRequest { timestamp_ms: EXAMPLE, source: "x".repeat(200), ..PingRequest::default() };
    let batch = StreamPingsRequest { pings: vec![ping; 10_000] };
    let clients: Vec<_> =
        futures::stream::iter(0..8).then(async |_| Client::connect(&pingd.api).await.unwrap()).collect().await;
    let mut streams = Vec::new();
    for client in &clients {
        let batches = tokio_stream::iter(std::iter::repeat_n(batch.clone(), 30));
        streams.push(client.stream_pings(batches).await.unwrap());
    }
    sleep(Duration::from_secs(5)).await;
    let grown = pingd.peak_memory() - before;
    assert!(grown < 250 << 20, "the server grew by {grown} bytes");
    assert!(pingd.metric("ping_transport_budget_bytes").await <= 33_554_432.0);
    drop(streams);
    pingd.call("PingCount", &json!({"strong": true})).await.unwrap();
}

#[tokio::test]
async fn a_recount_is_on_the_admin_port_and_runs_once_at_a_time() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for method in ["PingService/Verify", "AdminService/Verify"] {
        assert_eq!(pingd.ask(method, &json!({})).await.unwrap().0, 404, "{method} on the API's port");
    }
    pingd.ping(json!({})).await;
    pingd.wait_for_count(1).await;
    let (status, proof) = pingd.verify().await;
    assert_eq!((status, &proof["exact"], &proof["rows"]), (200, &json!(true), &json!("1")), "{proof}");
}

#[tokio::test]
async fn many_forged_tokens_wait_in_one_poll_and_are_limited() {
    let pingd = Pingd::dev(&["--memory", "--max-streams-per-connection", "2000"]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let forged = (0..1_200).map(|seq| {
        let request = PingCountRequest { after: format!("999.0.{}", seq + 1), ..PingCountRequest::default() };
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(5));
        client.ping_count(request)
    });
    let codes: Vec<_> =
        futures::future::join_all(forged).await.into_iter().map(|answer| answer.unwrap_err().code()).collect();
    let refused = codes.iter().filter(|code| **code == tonic::Code::ResourceExhausted).count();
    // The others waited until their deadline, which the client or the server noticed first.
    let waited =
        codes.iter().filter(|code| matches!(code, tonic::Code::DeadlineExceeded | tonic::Code::Cancelled)).count();
    assert_eq!((waited, refused), (1_000, 200));
}

/// While its parts are down, the server says what to do, and nothing about its parts.
#[tokio::test]
async fn errors_do_not_show_addresses_or_sql() {
    let (mut parts, server, _processor) = pipeline().await;
    server.ping(json!({"timestampMs": EXAMPLE})).await;
    server.wait_for_count(1).await;
    let port = parts.postgres.port().to_string();
    parts.postgres.stop().await.unwrap();
    for (method, body) in [
        ("PingService/Ping", json!({})),
        ("PingService/PingCount", json!({"strong": true})),
        ("SourceService/TopSources", json!({})),
        ("SourceService/SourceStats", json!({"source": "a"})),
    ] {
        let (status, answer) = server.ask(method, &body).await.unwrap();
        let text = answer.to_string();
        assert_eq!((status, &answer["code"]), (503, &json!("unavailable")), "{method}: {text}");
        for secret in [port.as_str(), "127.0.0.1", "postgres", "os error", "SELECT", "ping_owner"] {
            assert!(!answer["message"].as_str().unwrap().to_lowercase().contains(&secret.to_lowercase()), "{text}");
        }
        let id = answer["message"].as_str().unwrap().rsplit_once("(error ").unwrap().1.trim_end_matches(')').to_owned();
        assert!(server.log().contains(&id), "the cause is in the log under {id}");
        let details = answer["details"].as_array().unwrap();
        assert!(details.iter().any(|detail| detail["type"] == "google.rpc.RetryInfo"), "{text}");
    }
}
