//! What standard clients send with their default settings.

use std::time::Duration;

use buffa::Message as _;
use flate2::{Compression, write::GzEncoder};
use futures::StreamExt;
use ping_client::Client;
use ping_proto::{PingCountRequest, PingRequest, StreamPingsRequest};
use serde_json::{Value, json};
use std::io::Write;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    processes::{EXAMPLE, Pingd},
    wire,
};

const PING: &str = "/ping.v1.PingService/Ping";
const JSON: &str = "Content-Type: application/json\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_compressed_request_is_read_and_its_response_may_be_compressed() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let answer = reqwest::Client::new()
        .post(format!("{}{PING}", pingd.api))
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .header("accept-encoding", "gzip")
        .body(gzip(format!(r#"{{"timestampMs": {EXAMPLE}}}"#).as_bytes()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let channel = Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    let client = Client::new(channel).compressed();
    client.ping(PingRequest { timestamp_ms: EXAMPLE, ..PingRequest::default() }).await.unwrap();
    pingd.wait_for_count(2).await;
}

#[tokio::test]
async fn after_an_early_error_the_connection_still_works() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let body = vec![b'x'; 1_000_000];
    let mut counted = 0;
    for (method, path, headers, status) in [
        ("POST", PING, "Content-Type: text/plain\r\n", 415),
        ("POST", "/ping.v1.PingService/Pong", JSON, 404),
        ("PUT", PING, JSON, 405),
        ("POST", PING, JSON, 429),
        ("POST", PING, "Content-Type: application/json\r\nConnect-Timeout-Ms: soon\r\n", 400),
        ("POST", "/ping.v1.PingService/StreamPings", JSON, 415),
        // The error is in the headers, as gRPC has it: `grpc-status: 12`.
        ("POST", PING, "Content-Type: application/grpc\r\n", 200),
    ] {
        let mut connection = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
        for _ in 0..3 {
            let (found, text) = wire::exchange(&mut connection, &wire::request(method, path, headers, &body)).await;
            assert_eq!(found, status, "{method} {path} {headers}: {text}");
            assert!(status == 200 || !text.is_empty(), "{method} {path} {headers} is answered without words");
            let valid = wire::request("POST", PING, JSON, br#"{"timestampMs": 1728926331000}"#);
            assert_eq!(wire::exchange(&mut connection, &valid).await, (200, "{}".to_owned()), "after {status}");
            counted += 1;
        }
    }
    pingd.wait_for_count(counted).await;
}

/// A client that cancels all its calls at once keeps its connection.
#[tokio::test]
async fn many_cancelled_calls_do_not_close_the_connection() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let waiting = || {
        let request = PingCountRequest { after: "999.0.1".into(), ..PingCountRequest::default() };
        client.ping_count(request)
    };
    let mut request = tonic::Request::new(PingCountRequest { after: "999.0.1".into(), ..PingCountRequest::default() });
    request.set_timeout(Duration::from_secs(3));
    let survivor = tokio::spawn(client.ping_count(request));
    for _ in 0..5 {
        let calls = futures::future::join_all((0..90).map(|_| waiting()));
        assert!(timeout(Duration::from_millis(1), calls).await.is_err());
    }
    let status = survivor.await.unwrap().unwrap_err();
    assert!(matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{status:?}");
    assert!(!status.message().contains("too_many"), "{status:?}");
}

#[tokio::test]
async fn every_form_of_proto3_json_is_read() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for number in ["null", "1728926331000.0", "1.728926331e12", "-0", "\"1728926331000\""] {
        let mut connection = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
        let body = format!(r#"{{"timestampMs": {number}, "unknownField": [1, {{}}]}}"#);
        let (status, text) = wire::exchange(&mut connection, &wire::request("POST", PING, JSON, body.as_bytes())).await;
        assert_eq!((status, text.as_str()), (200, "{}"), "{number}");
    }
    pingd.wait_for_count(5).await;
    let (status, answer) =
        pingd.ask("SourceService/Series", &json!({"step": 99, "timeRange": {"start": 1}})).await.unwrap();
    assert_eq!(status, 400, "{answer}");
    assert!(answer["message"].as_str().unwrap().starts_with("step 99 is unknown"), "{answer}");
}

#[tokio::test]
async fn media_types_are_read_as_the_standard_says() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for (kind, expected) in [
        ("Application/JSON", 200),
        ("application/json; charset=utf-8", 200),
        ("application/jsonfoo", 415),
        ("text/json", 415),
    ] {
        let mut connection = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
        let request = wire::request("POST", PING, &format!("Content-Type: {kind}\r\n"), b"{}");
        let (status, text) = wire::exchange(&mut connection, &request).await;
        assert_eq!(status, expected, "{kind}: {text}");
    }
}

#[tokio::test]
async fn extreme_numbers_are_refused_and_do_not_break_the_connection() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let (min, max) = (i64::MIN.to_string(), i64::MAX.to_string());
    for (start, end) in [(&max, &max), (&min, &max), (&max, &min), (&"1".to_owned(), &max)] {
        for step in ["STEP_MINUTE", "STEP_FIVE_MINUTES", "STEP_HOUR", "STEP_DAY"] {
            let body = json!({"timeRange": {"start": start, "end": end}, "step": step});
            let (status, answer) = pingd.ask("SourceService/Series", &body).await.unwrap();
            assert!(matches!(status, 200 | 400), "{body}: {status} {answer}");
        }
    }
    let mut connection = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
    let headers = "Content-Type: application/grpc-web+proto\r\nGrpc-Timeout: 9999999999999999999H\r\n";
    let (_, text) = wire::exchange(&mut connection, &wire::request("POST", PING, headers, &[0; 5])).await;
    assert!(text.contains("grpc-status: 3") || text.contains("grpc-status:3"), "{text:?}");
}

#[tokio::test]
async fn every_method_honours_a_deadline() {
    let pingd = Pingd::dev(&["--memory"]).await;
    // No event has this token, so the call would wait for ten seconds.
    let body = json!({"after": "999.0.1"});
    let http = reqwest::Client::new();
    let started = std::time::Instant::now();
    let answer = http.post(format!("{}/ping.v1.PingService/PingCount", pingd.api)).header("connect-timeout-ms", "300");
    let answer = answer.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 504);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for method in ["PingService/Ping", "EventService/Record", "SourceService/TopSources", "SourceService/GetStatus"] {
        let url = format!("{}/ping.v1.{method}", pingd.api);
        let invalid = http.post(url).header("connect-timeout-ms", "1h").json(&json!({})).send().await.unwrap();
        assert_eq!(invalid.status(), 400, "{method}");
    }
}

#[tokio::test]
async fn counts_are_available_by_get_and_a_count_of_zero_is_shown() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let get = async |method: &str, message: &str| {
        let query = [("encoding", "json"), ("message", message), ("connect", "v1")];
        reqwest::Client::new().get(format!("{}/ping.v1.{method}", pingd.api)).query(&query).send().await.unwrap()
    };
    let answer = get("PingService/PingCount", "{}").await;
    assert_eq!(answer.headers()["cache-control"], "public, max-age=1");
    let count: Value = answer.json().await.unwrap();
    assert_eq!((&count["pingCount"], &count["exact"]), (&json!("0"), &json!(true)), "{count}");
    let strong = get("PingService/PingCount", r#"{"strong":true}"#).await;
    assert_eq!((strong.status().as_u16(), strong.headers().get("cache-control")), (200, None));
    let ping = get("PingService/Ping", "{}").await;
    assert_eq!(ping.status(), 405, "a method with effects needs POST");
    let stats: Value = get("SourceService/SourceStats", r#"{"source":"nobody"}"#).await.json().await.unwrap();
    assert_eq!(stats["count"], "0", "{stats}");
}

#[tokio::test]
async fn a_unary_call_has_one_message_of_limited_size() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let large = PingRequest { source: "x".repeat(8_000_000), ..PingRequest::default() };
    let refused = client.ping(large).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    let message = PingRequest { timestamp_ms: EXAMPLE, ..PingRequest::default() }.encode_to_vec();
    let frame = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()][..], &message].concat();
    for (method, body) in [("POST", frame.repeat(2)), ("PUT", frame.clone())] {
        let mut connection = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
        let request = wire::request(method, PING, "Content-Type: application/grpc-web+proto\r\n", &body);
        let (status, text) = wire::exchange(&mut connection, &request).await;
        assert!(status == 405 || text.contains("grpc-status"), "{method}: {status} {text:?}");
        assert!(!text.contains("grpc-status:0") && !text.contains("grpc-status: 0"), "{method}: {text:?}");
    }
    assert_eq!(pingd.count(json!({"strong": true})).await.0, 0, "none was recorded");
}

#[tokio::test]
async fn streams_work_by_connect_too() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let batch = StreamPingsRequest { pings: vec![PingRequest { timestamp_ms: EXAMPLE, ..PingRequest::default() }] };
    let json = serde_json::to_vec(&batch).unwrap();
    let frame = [&[0][..], &u32::try_from(json.len()).unwrap().to_be_bytes(), &json].concat();
    let answer = reqwest::Client::new()
        .post(format!("{}/ping.v1.PingService/StreamPings", pingd.api))
        .header("content-type", "application/connect+json")
        .body(frame.repeat(3))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(text.contains(r#""batches":"3""#) && text.ends_with("{}"), "{text:?}");
    pingd.wait_for_count(3).await;
}

#[tokio::test]
async fn health_answers_for_every_service_and_a_watch_reports_changes_only() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let channel = Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let services = ["", "ping.v1.PingService", "ping.v1.EventService", "ping.v1.SourceService"];
    for service in services {
        let request = HealthCheckRequest { service: service.into() };
        let mut status = health.check(request.clone()).await.unwrap().into_inner().status;
        while status != 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            status = health.check(request.clone()).await.unwrap().into_inner().status;
        }
    }
    let unknown = health.check(HealthCheckRequest { service: "ping.v1.Nothing".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
    assert!(timeout(Duration::from_secs(2), watch.next()).await.is_err(), "the state did not change");
    let list = reqwest::Client::new().post(format!("{}/grpc.health.v1.Health/List", pingd.api)).json(&json!({}));
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    for service in services {
        assert_eq!(list["statuses"][service]["status"], "SERVING", "{list}");
    }
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let pingd = Pingd::dev(&["--memory"]).await;
    let channel = Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    let expected = ["grpc.health.v1.Health", "ping.v1.EventService", "ping.v1.PingService", "ping.v1.SourceService"];
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let answer = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner().next().await;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(expected.iter().all(|name| names.contains(name)) && !names.contains(&"ping.v1.AdminService"), "{names:?}");
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "ping.v1.PingService".into(),
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answer = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner().next().await;
    let described = answer.unwrap().unwrap().message_response;
    let is_file =
        matches!(described, Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)));
    assert!(is_file, "{described:?}");
}
