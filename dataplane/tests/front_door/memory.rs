//! What decompressed messages and unread answers may hold of the server's memory.

use std::time::{Duration, Instant};

use buffa::bytes::Bytes;
use futures::future::join_all;
use h2::client::SendRequest;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    processes::Pingd,
    wire::{self, gzip},
};

const MIB: u64 = 1 << 20;

/// Begins a call with these headers, e.g. `content-type: application/proto`.
async fn begin(
    requests: &SendRequest<Bytes>,
    pingd: &Pingd,
    method: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
    is_complete: bool,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let mut request = http::Request::post(format!("{}/ping.v1.{method}", pingd.api));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut requests = requests.clone().ready().await.unwrap();
    let (response, mut stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(body.into(), is_complete).unwrap();
    (response, stream)
}

/// A message with its prefix.
fn envelope(flags: u8, message: &[u8]) -> Vec<u8> {
    [&[flags][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

async fn wait_until_nothing_is_charged(pingd: &Pingd) {
    let started = Instant::now();
    while pingd.metric("ping_transport_budget_bytes").await > 0.0 {
        assert!(started.elapsed() < Duration::from_secs(30), "what calls held is not returned");
        sleep(Duration::from_millis(50)).await;
    }
}

/// An event, and 8 MiB in an unknown field.
fn padded_batch() -> Vec<u8> {
    let padding = 8 * (1 << 20) - 16;
    let mut batch = vec![0x0a, 0x00, 0x7a];
    batch.extend([(padding & 0x7f) as u8 | 0x80, (padding >> 7 & 0x7f) as u8 | 0x80]);
    batch.extend([(padding >> 14 & 0x7f) as u8 | 0x80, (padding >> 21) as u8]);
    batch.resize(batch.len() + padding, 0);
    batch
}

/// Within all limits: one event, and spaces up to 8 MiB, compressed to 8 KiB.
#[tokio::test]
async fn compressed_messages_are_charged_by_their_size_after_decompression() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let before = pingd.peak_memory();
    let mut batch = br#"{"events":[{"source":"a"}]"#.to_vec();
    batch.resize((8 << 20) - 1, b' ');
    batch.push(b'}');
    let batch = gzip(&batch);
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let (requests, connection) = wire::connect_http2(&pingd.api, 1 << 20).await;
    let mut calls = Vec::new();
    for _ in 0..100 {
        calls.push(begin(&requests, &pingd, "EventService/RecordBatch", &headers, batch.clone(), true).await.0);
    }
    let answers = join_all(calls).await;
    let statuses: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    let grown = pingd.peak_growth(before) / MIB;
    println!("{accepted} accepted, {refused} refused, the server grew by {grown} MiB");
    assert_eq!(accepted + refused, 100, "{statuses:?}");
    assert!(accepted > 0 && grown < 250, "the server grew by {grown} MiB, {refused} were refused");
    pingd.wait_for_count(i64::try_from(accepted).unwrap()).await;
    connection.abort();
}

/// The messages are valid. Each holds 8 MiB that arrived as 8 KiB.
#[tokio::test]
async fn messages_of_a_stream_are_decompressed_once_its_handler_waits_for_them() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let before = pingd.peak_memory();
    let message = envelope(1, &gzip(&padded_batch()));
    let headers = [("content-type", "application/grpc"), ("grpc-encoding", "gzip")];
    let (requests, connection) = wire::connect_http2(&pingd.api, 0).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let body = message.repeat(4);
        streams.push(begin(&requests, &pingd, "EventService/RecordStream", &headers, body, false).await);
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let grown = pingd.peak_growth(before) / MIB;
        assert!(grown < 250, "the server grew by {grown} MiB");
        sleep(Duration::from_millis(50)).await;
    }
    println!("the server grew by {} MiB", pingd.peak_growth(before) / MIB);
    // Others are served meanwhile.
    assert_eq!(pingd.call("PingCount", &json!({"strong": true})).await.unwrap().0, 200);
    connection.abort();
}

#[tokio::test]
async fn a_stream_may_have_compressed_and_plain_messages() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let plain = envelope(0, &[0x0a, 0x00]);
    let padded = envelope(1, &gzip(&padded_batch()));
    let small = envelope(1, &gzip(&[0x0a, 0x00, 0x0a, 0x00]));
    let body = [&padded, &plain, &small, &padded, &plain, &small].map(Vec::as_slice).concat();
    let end = envelope(2, b"{}");
    for (kind, encoding, end) in
        [("grpc", "grpc-encoding", Vec::new()), ("connect+proto", "connect-content-encoding", end)]
    {
        let kind = format!("application/{kind}");
        let headers = [("content-type", kind.as_str()), (encoding, "gzip")];
        let (requests, connection) = wire::connect_http2(&pingd.api, 1 << 20).await;
        // In parts that end within prefixes and messages.
        let (response, mut stream) =
            begin(&requests, &pingd, "EventService/RecordStream", &headers, Vec::new(), false).await;
        for part in [body.as_slice(), &end].concat().chunks(997) {
            stream.send_data(Bytes::copy_from_slice(part), false).unwrap();
            tokio::task::yield_now().await;
        }
        stream.send_data(Bytes::new(), true).unwrap();
        let mut answers = timeout(Duration::from_secs(60), response).await.unwrap().unwrap().into_body();
        let mut received = Vec::new();
        while let Some(data) = timeout(Duration::from_secs(60), answers.data()).await.unwrap() {
            received.extend_from_slice(&data.unwrap());
        }
        let text = String::from_utf8_lossy(&received).into_owned();
        match answers.trailers().await.unwrap() {
            Some(trailers) => assert_eq!(trailers["grpc-status"], "0"),
            None => assert!(text.ends_with("{}"), "{text}"),
        }
        connection.abort();
    }
    pingd.wait_for_count(2 * 8).await;
    wait_until_nothing_is_charged(&pingd).await;
}

/// Answers of a megabyte, by Connect and by gRPC, to a client whose window has room for none, or for a part of each.
#[tokio::test]
async fn unread_answers_are_charged_and_their_connection_is_closed() {
    let pingd = Pingd::dev(&["--memory", "--peer-timeout-seconds", "3"]).await;
    // Each event is refused, with a reason: its time is negative.
    let batch = [0x0a, 0x0b, 0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01].repeat(10_000);
    for (window, kind) in [(0, "proto"), (0, "grpc"), (1_000, "proto"), (1_000, "grpc")] {
        let before = pingd.peak_memory();
        let kind = format!("application/{kind}");
        let headers = [("content-type", kind.as_str())];
        let body = if kind.ends_with("grpc") { envelope(0, &batch) } else { batch.clone() };
        let (requests, connection) = wire::connect_http2(&pingd.api, window).await;
        let mut calls = Vec::new();
        for _ in 0..90 {
            calls.push(begin(&requests, &pingd, "EventService/RecordBatch", &headers, body.clone(), true).await);
        }
        let answered = calls.into_iter().map(|(response, _)| response);
        let answers = timeout(Duration::from_secs(60), join_all(answered)).await.unwrap();
        let charged = pingd.metric("ping_transport_budget_bytes").await as u64 / MIB;
        println!("{kind}, window of {window}: {charged} MiB charged, grown by {} MiB", pingd.peak_growth(before) / MIB);
        assert!(charged >= 20, "{charged} MiB are charged for {} answers", answers.len());
        assert!(pingd.peak_growth(before) / MIB < 250);
        let ended = timeout(Duration::from_secs(30), connection).await;
        assert!(ended.is_ok(), "the connection stays open");
        wait_until_nothing_is_charged(&pingd).await;
    }
    assert_eq!(pingd.metric("ping_transport_closed_connections_total{reason=\"unread\"}").await, 4.0);
}
