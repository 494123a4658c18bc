//! What one caller may use of the server, and what it learns about it.

use std::time::{Duration, Instant};

use buffa::bytes::Bytes;
use futures::StreamExt;
use ping_client::Client;
use ping_proto::PingCountRequest;
use serde_json::json;
use tokio::{io::AsyncWriteExt, time::sleep};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

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

/// As an attacker opens them, from many addresses, while a client that came before keeps calling.
#[tokio::test]
async fn of_many_connections_that_send_nothing_few_are_open_and_none_stays() {
    let pingd = Pingd::dev(&["--memory", "--header-timeout-seconds", "3"]).await;
    let before = pingd.peak_memory();
    let ping = wire::request("POST", "/ping.v1.PingService/Ping", JSON, b"{}");
    let mut client = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
    let (mut idle, mut pings) = (Vec::new(), 0);
    for attempt in 0..19_900 {
        let address = format!("127.0.1.{}", 1 + attempt % 200);
        let mut connection = wire::connect(&pingd.api, &address).await.unwrap();
        // Half of them stall in a request.
        if attempt % 2 == 0 {
            let _ = connection.write_all(&ping[..20]).await;
        }
        idle.push(connection);
        if attempt % 200 == 0 {
            assert_eq!(wire::exchange(&mut client, &ping).await.0, 200);
            pings += 1;
            idle.retain(wire::is_open);
        }
    }
    let started = Instant::now();
    while idle.iter().any(wire::is_open) {
        assert!(started.elapsed() < Duration::from_secs(60), "{} are still open", idle.len());
        idle.retain(wire::is_open);
        sleep(Duration::from_millis(50)).await;
    }
    // The limit of all connections is 1,000 by default.
    let grown = pingd.peak_growth(before);
    assert!(grown < 100 << 20, "the server grew by {grown} bytes");
    pingd.wait_for_count(pings).await;
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

/// Probes and scrapes come from other addresses.
#[tokio::test]
async fn one_address_cannot_occupy_the_admin_port() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let probe = wire::request("GET", "/healthz", "", b"");
    let mut open = Vec::new();
    for _ in 0..150 {
        let mut connection = wire::connect(&pingd.admin, "127.0.0.2").await.unwrap();
        let _ = connection.write_all(&probe).await;
        open.push(connection);
    }
    let mut other = wire::connect(&pingd.admin, "127.0.0.3").await.unwrap();
    assert_eq!(wire::exchange(&mut other, &probe).await.0, 200);
    let name = "ping_admin_closed_connections_total{reason=\"address_limit\"}";
    let started = Instant::now();
    while pingd.metric(name).await < 130.0 {
        assert!(started.elapsed() < Duration::from_secs(60), "not all were closed");
        sleep(Duration::from_millis(20)).await;
    }
    // Idle connections do not stay.
    open.push(other);
    for connection in &mut open {
        assert!(wire::is_closed_within(connection, Duration::from_secs(30)).await);
    }
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
    let grown = pingd.peak_growth(before);
    assert!(grown < 100 << 20, "the server grew by {grown} bytes");
}

/// Valid batches of small events on one connection whose answers are never read: the server stops reading. 13 MB would be 1.2 GB of events.
#[tokio::test]
async fn a_stream_whose_answers_are_not_read_is_slowed_down() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let before = pingd.peak_memory();
    let batch = [0x0a, 0x00].repeat(10_000);
    let frame = [&[0][..], &u32::try_from(batch.len()).unwrap().to_be_bytes(), &batch].concat();
    let (requests, connection) = wire::connect_http2(&pingd.api, 0).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let request = http::Request::post(format!("{}/ping.v1.PingService/StreamPings", pingd.api));
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        let (_, mut stream) = requests.clone().ready().await.unwrap().send_request(request, false).unwrap();
        stream.send_data(Bytes::from(frame.repeat(10)), false).unwrap();
        streams.push(stream);
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let grown = pingd.peak_growth(before);
        assert!(grown < 250 << 20, "the server grew by {grown} bytes");
        sleep(Duration::from_millis(50)).await;
    }
    println!("the server grew by {} MiB", pingd.peak_growth(before) >> 20);
    assert!(
        pingd.metric("ping_transport_budget_bytes").await <= pingd.metric("ping_transport_budget_limit_bytes").await
    );
    // Others are served meanwhile.
    assert_eq!(pingd.call("PingCount", &json!({"strong": true})).await.unwrap().0, 200);
    connection.abort();
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
    let channel = Channel::from_shared(server.api.clone()).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    parts.postgres.stop().await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing, "a watch reports it");
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
