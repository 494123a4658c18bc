//! Quotas, as callers of every protocol see them.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use futures::StreamExt;
use ping_client::Client;
use ping_proto::{RecordBatchRequest, RecordRequest};
use prost::Message;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    policy::{PolicyFile, call, metric, token},
    processes::Pingd,
    scopes::{ask, count},
};

/// `google.rpc.Status`, in the header `grpc-status-details-bin`.
#[derive(Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

#[derive(Clone, Copy, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn delay_of(retry_info: &[u8]) -> Duration {
    let delay = RetryInfo::decode(retry_info).unwrap().retry_delay.unwrap();
    Duration::new(delay.seconds.try_into().unwrap(), delay.nanos.try_into().unwrap())
}

/// The delay in an encoded `google.rpc.Status`.
fn delay_in_status(status: &[u8]) -> Duration {
    let status = RpcStatus::decode(status).unwrap();
    let detail = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"));
    delay_of(&detail.unwrap_or_else(|| panic!("{status:?}")).value)
}

/// The delay in an error of Connect.
fn delay_in_json(answer: &Value) -> Duration {
    let details = answer["details"].as_array().unwrap();
    let detail = details.iter().find(|detail| detail["type"] == "google.rpc.RetryInfo").unwrap();
    delay_of(&STANDARD_NO_PAD.decode(detail["value"].as_str().unwrap()).unwrap())
}

/// Tokens `t-a`, `t-b` and `t-all`, which may do everything, with these quotas.
pub fn policy(quotas: &str) -> String {
    let tokens = [token("a", "t-a"), token("b", "t-b"), token("all", "t-all")].join(", ");
    format!(
        "tokens: [{tokens}]\nrules: [{{callers: [\"token:*\"], permissions: [ingest, read, metrics]}}]\nquotas:\n{quotas}"
    )
}

async fn server(quotas: &str) -> (Pingd, PolicyFile) {
    let policy = PolicyFile::new(&policy(quotas));
    let pingd = Pingd::dev(&["--memory", "--access-policy", policy.path().to_str().unwrap()]).await;
    (pingd, policy)
}

fn batch(events: usize) -> RecordBatchRequest {
    RecordBatchRequest { events: vec![RecordRequest { source: "s".into(), ..RecordRequest::default() }; events] }
}

async fn send(pingd: &Pingd, token: &str, events: usize) -> (u16, Value) {
    ask(pingd, "EventService/RecordBatch", token, serde_json::to_value(batch(events)).unwrap()).await
}

async fn metrics(pingd: &Pingd) -> String {
    let answer = reqwest::Client::new().get(format!("{}/metrics", pingd.admin)).bearer_auth("t-all").send().await;
    answer.unwrap().text().await.unwrap()
}

async fn client(pingd: &Pingd, token: &str) -> (Client, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token).unwrap();
    (Client::connect(&pingd.api).await.unwrap().with_token_file(Some(file.path().to_owned())), file)
}

/// Sends a batch by gRPC-Web; the trailers as text, wherever they are.
async fn grpc_web(pingd: &Pingd, token: &str, events: usize) -> String {
    let message = buffa::Message::encode_to_vec(&batch(events));
    let frame = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    let call = reqwest::Client::new().post(format!("{}/ping.v1.EventService/RecordBatch", pingd.api));
    let call = call.bearer_auth(token).header("content-type", "application/grpc-web+proto").body(frame);
    let answer = call.send().await.unwrap();
    let headers = answer.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
    let headers: String = headers.collect();
    headers + &String::from_utf8_lossy(&answer.bytes().await.unwrap())
}

/// The value of a header or trailer.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let at = text.find(name).unwrap_or_else(|| panic!("no {name} in {text}")) + name.len() + 1;
    text[at..].lines().next().unwrap().trim()
}

#[tokio::test]
async fn a_call_beyond_its_quota_is_refused_in_every_protocol_with_the_time_after_which_it_fits() {
    let (pingd, _policy) = server("- {name: slow, callers: [\"token:a\"], eventsPerSecond: 1, burstSeconds: 60}").await;
    assert_eq!(send(&pingd, "t-a", 60).await.0, 200);
    let is_right = |delay: Duration| delay > Duration::from_secs(10) && delay <= Duration::from_secs(50);
    let http = reqwest::Client::new();
    let call = http.post(format!("{}/ping.v1.EventService/RecordBatch", pingd.api)).bearer_auth("t-a");
    let answer = call.json(&batch(50)).send().await.unwrap();
    let retry_after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(answer.status(), 429);
    assert!(is_right(Duration::from_secs(retry_after)), "{retry_after}");
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["code"], "resource_exhausted");
    assert!(is_right(delay_in_json(&answer)), "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.starts_with("quota \"slow\" allows 1 events per second, and nothing was recorded; retry in "),
        "{message}"
    );

    let (grpc, _token) = client(&pingd, "t-a").await;
    let status = grpc.record_batch(batch(50)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(is_right(delay_in_status(status.details())), "{status}");

    let text = grpc_web(&pingd, "t-a", 50).await;
    assert_eq!(value(&text, "grpc-status"), "8", "{text}");
    let details = value(&text, "grpc-status-details-bin").trim_end_matches('=');
    assert!(is_right(delay_in_status(&STANDARD_NO_PAD.decode(details).unwrap())), "{text}");

    assert_eq!(count(&pingd).await, "60");
    let text = metrics(&pingd).await;
    assert_eq!(metric(&text, "ping_quota_admitted_events_total{quota=\"slow\"}"), 60.0);
    let refused =
        |limit: &str| metric(&text, &format!("ping_quota_refused_events_total{{quota=\"slow\",limit=\"{limit}\"}}"));
    assert_eq!((refused("eventsPerSecond"), refused("newKindsPerDay")), (150.0, 0.0));
}

#[tokio::test]
async fn cloud_events_count_towards_the_quota() {
    let (pingd, _policy) = server("- {name: slow, callers: [\"token:a\"], eventsPerSecond: 20, burstSeconds: 2}").await;
    let event = |id: usize| json!({"specversion": "1.0", "id": id.to_string(), "source": "a", "type": "ping"});
    let batch = |ids: std::ops::Range<usize>| Value::from(ids.map(event).collect::<Vec<_>>()).to_string();
    let send = async |body: String| {
        let request = reqwest::Client::new().post(format!("{}/cloudevents", pingd.api)).bearer_auth("t-a");
        request.header("content-type", "application/cloudevents-batch+json").body(body).send().await.unwrap()
    };
    assert_eq!(send(batch(0..40)).await.status(), 200);
    let refused = send(batch(40..80)).await;
    assert!(refused.status() == 429 && refused.headers().contains_key("retry-after"), "{refused:?}");
    assert_eq!(count(&pingd).await, "40");
}

#[tokio::test]
async fn a_caller_that_waits_as_long_as_it_is_told_is_admitted() {
    let (pingd, _policy) = server("- {name: slow, callers: [\"token:a\"], eventsPerSecond: 20, burstSeconds: 2}").await;
    assert_eq!(send(&pingd, "t-a", 40).await.0, 200);
    let (status, answer) = send(&pingd, "t-a", 40).await;
    assert_eq!(status, 429);
    sleep(delay_in_json(&answer)).await;
    assert_eq!(send(&pingd, "t-a", 40).await.0, 200);
}

#[tokio::test]
async fn a_batch_that_never_fits_is_invalid() {
    let (pingd, _policy) = server(
        "- {name: few, callers: [\"token:a\"], eventsPerSecond: 10, burstSeconds: 2}
- {name: small, callers: [\"token:b\"], bytesPerSecond: 1024}
",
    )
    .await;
    let (status, answer) = send(&pingd, "t-a", 21).await;
    assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")), "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("quota \"few\" allows at most 20 events at once, and the call has 21"), "{message}");
    assert_eq!(send(&pingd, "t-a", 20).await.0, 200, "nothing was charged for it");
    // An event has 24 bytes and those of its source.
    assert_eq!(send(&pingd, "t-b", 41).await.0, 400);
    assert_eq!(send(&pingd, "t-b", 40).await.0, 200);
    assert_eq!(send(&pingd, "t-b", 40).await.0, 429);
}

#[tokio::test]
async fn callers_have_their_own_quota_or_share_one_and_quotas_cover_their_sources_and_kinds() {
    let (pingd, _policy) = server(
        "- {name: own, callers: [\"token:a\", \"token:b\"], eventsPerSecond: 1, burstSeconds: 1000, kinds: [own]}
- {name: shared, callers: [\"token:*\"], per: quota, eventsPerSecond: 1, burstSeconds: 1000, sources: [\"s-*\"]}
",
    )
    .await;
    let events = |source: &str, kind: &str| json!({"events": vec![json!({"source": source, "kind": kind}); 900]});
    let send = async |token: &str, source: &str, kind: &str| {
        ask(&pingd, "EventService/RecordBatch", token, events(source, kind)).await.0
    };
    assert_eq!(send("t-a", "x", "own").await, 200);
    assert_eq!(send("t-a", "x", "own").await, 429);
    assert_eq!(send("t-b", "x", "own").await, 200);
    assert_eq!(send("t-all", "x", "own").await, 200);
    assert_eq!(send("t-all", "x", "own").await, 200);
    assert_eq!(send("t-a", "s-1", "other").await, 200);
    assert_eq!(send("t-b", "s-2", "other").await, 429);
    assert_eq!(send("t-a", "x", "other").await, 200);
}

#[tokio::test]
async fn anonymous_callers_share_one_quota() {
    let policy = PolicyFile::new(
        "anonymous: [ingest]
quotas: [{name: strangers, callers: [anonymous], eventsPerSecond: 1, burstSeconds: 60}]",
    );
    let pingd = Pingd::dev(&["--memory", "--access-policy", policy.path().to_str().unwrap()]).await;
    let url = format!("{}/ping.v1.EventService/RecordBatch", pingd.api);
    let body = serde_json::to_value(batch(50)).unwrap();
    assert_eq!(call(&url, None, &body).await.0, 200);
    assert_eq!(call(&url, None, &body).await.0, 429);
}

#[tokio::test]
async fn a_retry_of_a_recorded_event_is_charged_and_counted_once() {
    let (pingd, _policy) =
        server("- {name: few, callers: [\"token:a\"], eventsPerSecond: 1, burstSeconds: 1000}").await;
    let event =
        json!({"source": "s", "eventId": "7d444840-9dc0-11d1-b245-5ffdce74fad2", "timestampMs": "1728926331000"});
    let copies = json!({"events": vec![event; 450]});
    for (status, accepted) in [(200, json!("1")), (200, json!("0")), (429, Value::Null)] {
        let (found, answer) = ask(&pingd, "EventService/RecordBatch", "t-a", copies.clone()).await;
        assert_eq!((found, &answer["accepted"]), (status, &accepted), "{answer}");
    }
    assert_eq!(count(&pingd).await, "1");
}

/// Sends the bodies, a few at a time; the status of each answer.
pub async fn send_all(pingd: &Pingd, method: &str, bodies: impl Iterator<Item = Value>) -> Vec<u16> {
    let (http, url) = (reqwest::Client::new(), format!("{}/ping.v1.{method}", pingd.api));
    let calls = bodies.map(|body| {
        let call = http.post(&url).bearer_auth("t-a").json(&body);
        async move { call.send().await.unwrap().status().as_u16() }
    });
    futures::stream::iter(calls).buffered(8).collect().await
}

/// A stream with these batches; what came of each, and how long it took.
async fn stream(pingd: &Pingd, batches: Vec<RecordBatchRequest>) -> (Vec<Result<i64, Status>>, Duration) {
    let (client, _token) = client(pingd, "t-a").await;
    let started = Instant::now();
    let (sender, receiver) = tokio::sync::mpsc::channel(batches.len().max(1));
    for batch in batches {
        sender.send(batch).await.unwrap();
    }
    drop(sender);
    let mut answers = client.record_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let mut found = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => found.push(Ok(answer.accepted)),
            Ok(None) => break,
            Err(error) => {
                found.push(Err(error));
                break;
            }
        }
    }
    (found, started.elapsed())
}

#[tokio::test]
async fn a_stream_is_slowed_down_to_its_quota_and_everything_is_acknowledged() {
    let (pingd, _policy) = server("- {name: flow, callers: [\"token:a\"], eventsPerSecond: 100}").await;
    let (answers, took) = stream(&pingd, vec![batch(20); 20]).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [20; 20]);
    assert!(took >= Duration::from_millis(2_700), "400 events at 100 per second after a burst of 100 took {took:?}");
    assert_eq!(count(&pingd).await, "400");
    let text = metrics(&pingd).await;
    assert!(metric(&text, "ping_quota_delayed_batches_total{quota=\"flow\"}") > 0.0);
    assert_eq!(metric(&text, "ping_quota_refused_events_total{quota=\"flow\",limit=\"eventsPerSecond\"}"), 0.0);
}

#[tokio::test]
async fn a_stream_that_would_wait_too_long_is_refused_after_what_was_before_is_acknowledged() {
    let (pingd, _policy) = server("- {name: flow, callers: [\"token:a\"], eventsPerSecond: 1, burstSeconds: 60}").await;
    let (answers, took) = stream(&pingd, vec![batch(30), batch(20), batch(60)]).await;
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(matches!(&answers[..2], [Ok(30), Ok(20)]), "{answers:?}");
    let error = answers[2].as_ref().unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(delay_in_status(error.details()) > Duration::from_secs(5), "{error}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(count(&pingd).await, "50");
}

#[tokio::test]
async fn a_changed_quota_is_used_without_a_restart() {
    let (pingd, file) = server("- {name: few, callers: [\"token:a\"], eventsPerSecond: 1, burstSeconds: 60}").await;
    assert_eq!(send(&pingd, "t-a", 200).await.0, 400);
    file.write(&policy("- {name: few, callers: [\"token:a\"], eventsPerSecond: 1000}"));
    let started = Instant::now();
    while send(&pingd, "t-a", 200).await.0 != 200 {
        assert!(started.elapsed() < crate::processes::TIMEOUT);
        sleep(Duration::from_millis(200)).await;
    }
}
