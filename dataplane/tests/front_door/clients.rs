//! What standard clients send with their default settings.

use std::time::Duration;

use buffa::Message as _;
use flate2::{Compression, write::GzEncoder};
use ping_client::Client;
use ping_proto::{PingCountRequest, PingRequest, StreamPingsRequest};
use serde_json::{Value, json};
use std::io::Write;
use tokio::time::timeout;
use tonic::transport::Channel;

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
        ("POST", PING, "Content-Type: application/json\r\nContent-Encoding: br\r\n", 501),
        ("POST", "/ping.v1.PingService/StreamPings", JSON, 415),
        // The error is in the headers, as gRPC has it: `grpc-status: 12`.
        ("POST", PING, "Content-Type: application/grpc\r\n", 200),
    ] {
        let mut connection = wire::connect(&pingd.api, "127.0.0.1").await.unwrap();
        // A body that is too large is refused for that.
        let body = if status == 501 { &body[..1_000] } else { &body[..] };
        for _ in 0..3 {
            let (found, text) = wire::exchange(&mut connection, &wire::request(method, path, headers, body)).await;
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
        // The server accepts calls in order: after this one, it has accepted the cancelled ones, too.
        client.ping_count(PingCountRequest::default()).await.unwrap();
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
async fn a_json_array_is_not_a_message() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for (method, body, place) in [
        ("PingService/Ping", json!([EXAMPLE]), "the JSON body"),
        ("PingService/PingCount", json!({"timeRange": [1, 2]}), "timeRange"),
        ("EventService/RecordBatch", json!({"events": [{}, ["", "a", "", EXAMPLE]]}), "events[1]"),
    ] {
        let (status, answer) = pingd.ask(method, &body).await.unwrap();
        assert_eq!((status, &answer["message"]), (400, &json!(format!("{place}: expected an object"))), "{body}");
    }
    assert_eq!(pingd.count(json!({"strong": true})).await.0, 0, "none was recorded");
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
    let (one, near) = ("1".to_owned(), (i64::MAX - 1).to_string());
    for (start, end) in [(&max, &max), (&min, &max), (&max, &min), (&one, &max), (&one, &near), (&near, &max)] {
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
async fn a_unary_call_has_one_message_of_limited_size() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let large = PingRequest { source: "x".repeat(8_000_000), ..PingRequest::default() };
    let refused = client.ping(large).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    let message = PingRequest { timestamp_ms: EXAMPLE, ..PingRequest::default() }.encode_to_vec();
    let frame = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()][..], &message].concat();
    for (method, body) in [("POST", frame.repeat(2)), ("PUT", frame.clone())] {
        let (status, code) = wire::grpc(&pingd.api, method, "PingService/Ping", &[], &body).await;
        assert!(status == 405 || code == "12" || code == "3", "{method} by gRPC: {status}, grpc-status {code:?}");
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

/// connect-go and connect-es read it there; they showed the status of a whole response as a bare HTTP error.
#[tokio::test]
async fn the_error_of_a_stream_is_its_last_message() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let answer = reqwest::Client::new()
        .post(format!("{}/ping.v1.PingService/StreamPings", pingd.api))
        .header("content-type", "application/connect+json")
        .body(b"\0\0\0\0\x05hello".to_vec())
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/connect+json".parse().unwrap())
    );
    let body = answer.bytes().await.unwrap();
    let last: Value = serde_json::from_slice(&body[5..]).unwrap();
    assert_eq!((body[0], &last["error"]["code"]), (2, &json!("invalid_argument")), "{last}");
}
