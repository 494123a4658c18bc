//! Streams: each batch is checked when it arrives.

use std::time::{Duration, Instant};

use ping_client::Client;
use ping_proto::{RecordBatchRequest, RecordRequest, WatchRequest, WatchResponse};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    issuer::{Key, KeyServer, claims, now},
    policy::PolicyFile,
    processes::{Pingd, TIMEOUT},
    scopes::{count, server},
    tokens,
};

/// A stream with a token.
pub struct Sender {
    batches: mpsc::Sender<RecordBatchRequest>,
    answers: Streaming<ping_proto::RecordBatchResponse>,
    _token: tempfile::NamedTempFile,
}

impl Sender {
    pub async fn open(pingd: &Pingd, token: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), token).unwrap();
        let client = Client::connect(&pingd.api).await.unwrap().with_token_file(Some(file.path().to_owned()));
        let (batches, receiver) = mpsc::channel(8);
        let answers = client.record_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { batches, answers, _token: file }
    }

    pub async fn send(&mut self, source: &str) -> Result<(), Status> {
        let event = RecordRequest { source: source.into(), ..RecordRequest::default() };
        // If the stream has ended, the answer says why.
        let _ = self.batches.send(RecordBatchRequest { events: vec![event] }).await;
        let answer = timeout(TIMEOUT, self.answers.message()).await.unwrap()?;
        assert!(answer.is_some(), "the stream ended without an error");
        Ok(())
    }
}

#[tokio::test]
async fn a_stream_ends_at_the_first_forbidden_event() {
    let (pingd, _policy) = server().await;
    let mut stream = Sender::open(&pingd, "t-orders").await;
    stream.send("orders-1").await.unwrap();
    let error = stream.send("mail-1").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(error.message().contains("event 0") && error.message().contains("rule 1"), "{}", error.message());
    assert_eq!(count(&pingd).await, "1");
}

#[tokio::test]
async fn a_stream_needs_credentials_to_begin() {
    let (pingd, _policy) = server().await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let opened = client.record_stream(tokio_stream::pending()).await;
    assert_eq!(opened.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let key = Key::new("a");
    let keys = KeyServer::start(&[&key]).await;
    let rule = "- {callers: [\"cluster:*\"], permissions: [ingest]}\n";
    let (pingd, _policy) = tokens::server(&keys, rule).await;
    let token = key.sign(&claims(&json!({"exp": now() + 3})));
    let mut stream = Sender::open(&pingd, &token).await;
    stream.send("a").await.unwrap();
    sleep(Duration::from_secs(4)).await;
    let error = stream.send("a").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked() {
    let (pingd, policy) = server().await;
    let mut stream = Sender::open(&pingd, "t-orders").await;
    stream.send("orders-1").await.unwrap();
    revoke(&policy);
    let started = Instant::now();
    let error = loop {
        match stream.send("orders-1").await {
            Ok(()) => assert!(started.elapsed() < TIMEOUT, "the stream continues"),
            Err(error) => break error,
        }
        sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert!(error.message().contains("revoked"), "{error}");
}

/// Watches with a token.
async fn watch(pingd: &Pingd, token: &str) -> Result<Streaming<WatchResponse>, Status> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token).unwrap();
    let client = Client::connect(&pingd.api).await.unwrap().with_token_file(Some(file.path().to_owned()));
    Ok(client.watch(WatchRequest { minutes: 1, top_sources: 1 }).await?.into_inner())
}

#[tokio::test]
async fn a_watcher_needs_all_sources_and_is_cut_off_when_its_token_is_revoked() {
    let (pingd, policy) = server().await;
    for token in ["t-orders", "t-agent"] {
        // The error is in the headers of the answer, or follows them.
        let error = match watch(&pingd, token).await {
            Ok(mut stream) => stream.message().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code(), Code::PermissionDenied, "{token}: {error}");
    }
    let mut stream = watch(&pingd, "t-all").await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    revoke(&policy);
    let started = Instant::now();
    let error = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some() && started.elapsed() < TIMEOUT, "the stream continues"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

fn revoke(policy: &PolicyFile) {
    policy.write("rules: [{callers: [\"token:orders\"], permissions: [ingest]}]");
}
