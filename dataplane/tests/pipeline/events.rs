//! `EventService` by every protocol: source, kind and time of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use futures::StreamExt;
use ping_client::Client;
use ping_proto::{RecordBatchRequest, RecordRequest, log::Event};
use prost::Message as _;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::json;
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use tokio::task::spawn_blocking;

use crate::processes::{EXAMPLE, Pingd, TIMEOUT};

/// Source and kind of every event in the embedded database, sorted.
async fn stored(data: &Path) -> Vec<(Option<String>, Option<String>)> {
    let file = SqliteConnectOptions::new().filename(data.join("pings.db")).read_only(true);
    let mut connection = file.connect().await.unwrap();
    let rows = sqlx::query_as("SELECT source, kind FROM events ORDER BY source, kind").fetch_all(&mut connection);
    rows.await.unwrap()
}

fn row(source: &str, kind: Option<&str>) -> (Option<String>, Option<String>) {
    (Some(source.to_owned()), kind.map(Into::into))
}

#[tokio::test]
async fn an_event_without_a_source_is_the_callers_own() {
    let folder = tempfile::tempdir().unwrap();
    let pingd = Pingd::dev(&["--data", folder.path().to_str().unwrap()]).await;
    let (status, answer) = pingd.ask("EventService/Record", &json!({})).await.unwrap();
    assert_eq!((status, answer), (200, json!({})));
    let body = json!({"source": "example.com", "kind": "delivered", "timestampMs": EXAMPLE, "receipt": true});
    let (status, answer) = pingd.ask("EventService/Record", &body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(answer["eventId"].is_string() && answer["token"].is_string(), "{answer}");
    // A header from an untrusted caller is ignored.
    let url = format!("{}/ping.v1.EventService/Record", pingd.api);
    let claim = reqwest::Client::new().post(url).header("x-forwarded-for", "192.0.2.9").json(&json!({}));
    assert_eq!(claim.send().await.unwrap().status(), 200);
    pingd.wait_for_count(3).await;
    let rows = [row("127.0.0.1", None), row("127.0.0.1", None), row("example.com", Some("delivered"))];
    assert_eq!(stored(folder.path()).await, rows);
}

#[tokio::test]
async fn a_trusted_proxy_says_whom_it_calls_for() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let pingd = Pingd::dev(&["--data", data, "--trusted-proxies", "10.0.0.0/8,127.0.0.0/8"]).await;
    let url = format!("{}/ping.v1.EventService/RecordBatch", pingd.api);
    let batch = json!({"events": [{}, {"source": "named"}, {"timestampMs": -5}]});
    let call = reqwest::Client::new().post(url).header("x-forwarded-for", "203.0.113.1, 192.0.2.9").json(&batch);
    let answer: serde_json::Value = call.send().await.unwrap().json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["refused"][0]["index"]), (&json!("2"), &json!(2)), "{answer}");
    assert!(answer["refused"][0]["message"].as_str().unwrap().contains("negative"), "{answer}");

    // The same by gRPC, as single calls and as a stream.
    let client = Client::connect(&pingd.api).await.unwrap();
    let mut request = tonic::Request::new(RecordRequest::default());
    request.metadata_mut().insert("x-forwarded-for", "198.51.100.4".parse().unwrap());
    client.record(request).await.unwrap();
    let named = |source: &str| RecordRequest { source: source.into(), kind: "ping".into(), ..RecordRequest::default() };
    let batches = ["a", "b"].map(|source| RecordBatchRequest { events: vec![named(source), named("")] });
    let answers = client.record_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let durable: Vec<_> =
        answers.map(|answer| answer.unwrap()).map(|answer| (answer.batches, answer.accepted)).collect().await;
    assert_eq!(durable, [(1, 2), (2, 2)]);
    pingd.wait_for_count(7).await;
    let sources = ["127.0.0.1", "127.0.0.1", "192.0.2.9", "198.51.100.4", "a", "b", "named"];
    assert_eq!(stored(folder.path()).await, sources.map(|source| row(source, None)));
}

#[tokio::test]
async fn a_stream_keeps_the_order_of_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let pingd = Pingd::dev(&["--data", folder.path().to_str().unwrap()]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let batch = |place: i64| RecordBatchRequest {
        events: vec![RecordRequest { source: "s".into(), timestamp_ms: EXAMPLE + place, ..RecordRequest::default() }],
    };
    let batches: Vec<_> = (0..100).map(batch).collect();
    let mut answers = client.record_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let mut tokens = Vec::new();
    while let Some(answer) = answers.next().await {
        let token: ping_core::Token = answer.unwrap().token.unwrap().parse().unwrap();
        tokens.push((token.writer, token.partition, token.seq));
    }
    // One writer, one partition, ascending: consumers of the log read the events in this order.
    assert!(tokens.is_sorted() && tokens.len() == 100, "{tokens:?}");
    assert!(tokens.iter().all(|token| token.0 == tokens[0].0 && token.1 == tokens[0].1));
}

/// The last batch is refused before it is decoded, while those before it are being recorded.
#[tokio::test]
async fn the_error_of_a_batch_follows_the_acknowledgements_of_those_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let pingd = Pingd::dev(&["--data", folder.path().to_str().unwrap()]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let event = || RecordRequest { source: "s".into(), ..RecordRequest::default() };
    let good = std::iter::repeat_n(RecordBatchRequest { events: vec![event()] }, 50);
    let too_many = RecordBatchRequest { events: vec![event(); 10_002] };
    let mut answers = client.record_stream(tokio_stream::iter(good.chain([too_many]))).await.unwrap().into_inner();
    let mut durable = 0;
    let error = loop {
        match answers.next().await.unwrap() {
            Ok(answer) => durable = answer.batches,
            Err(error) => break error,
        }
    };
    assert_eq!((durable, error.code()), (50, tonic::Code::InvalidArgument), "{error}");
}

/// A client that sends single events faster than they are stored is slowed down, not disconnected: every event is acknowledged.
#[tokio::test]
async fn a_stream_of_single_events_may_be_faster_than_the_store() {
    const EVENTS: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let pingd = Pingd::dev(&["--data", folder.path().to_str().unwrap()]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    // Without the yield, the client would put waiting messages into one frame; clients in other languages send a frame for each.
    let batches = tokio_stream::iter(0..EVENTS).then(async |_| {
        tokio::task::yield_now().await;
        RecordBatchRequest { events: vec![RecordRequest { source: "s".into(), ..RecordRequest::default() }] }
    });
    let mut answers = client.record_stream(batches).await.unwrap().into_inner();
    let mut accepted = 0;
    while let Some(answer) = answers.next().await {
        accepted += answer.unwrap().accepted;
    }
    assert_eq!(accepted, EVENTS as i64);
    pingd.wait_for_count(accepted).await;
}

/// The first `count` events of the topic that have a kind, each partition in order.
fn published(brokers: &str, topic: &str, count: usize) -> Vec<Event> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "listener").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut events = Vec::new();
    while events.len() < count {
        let record = consumer.poll(TIMEOUT).expect("every acknowledged event is in the topic").unwrap();
        let event = Event::decode(record.payload().unwrap()).unwrap();
        if !event.kind.is_empty() {
            events.push(event);
        }
    }
    events
}

/// Three lanes, two connections, batches of many sources: events of a source from one connection stay in order.
#[tokio::test]
async fn a_connection_keeps_the_order_of_its_sources_with_several_lanes() {
    const BATCHES: i64 = 40;
    const SOURCES: i64 = 12;
    let parts = ping_testbed::Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let server = Pingd::server_with(&parts, &["--lanes", "3"]).await;
    let connection = async |name: &'static str| {
        let client = Client::connect(&server.api).await.unwrap();
        let event = move |place: i64| RecordRequest {
            source: format!("source-{}", place % SOURCES),
            kind: name.into(),
            timestamp_ms: EXAMPLE + place,
            ..RecordRequest::default()
        };
        // Each batch starts with another source.
        let batch =
            move |place: i64| RecordBatchRequest { events: (place * 31..(place + 1) * 31).map(event).collect() };
        let batches = tokio_stream::iter((0..BATCHES).map(batch));
        let mut answers = client.record_stream(batches).await.unwrap().into_inner();
        let mut writers = BTreeSet::new();
        while let Some(answer) = answers.next().await {
            let token: ping_core::Token = answer.unwrap().token.unwrap().parse().unwrap();
            writers.insert(token.writer);
        }
        // Also by unary calls on the same connection.
        for place in BATCHES * 31..BATCHES * 31 + SOURCES {
            client.record(event(place)).await.unwrap();
        }
        writers
    };
    // Until a server knows the number of partitions, it uses the first, and a source could be on two. Wait until it knows.
    let mut spread = false;
    while !spread {
        for place in 0..SOURCES {
            let body = json!({"source": format!("source-{place}"), "receipt": true});
            let (_, answer) = server.ask("EventService/Record", &body).await.unwrap();
            let token: ping_core::Token = answer["token"].as_str().unwrap().parse().unwrap();
            spread |= token.partition > 0;
        }
    }
    let (first, second) = tokio::join!(connection("first"), connection("second"));
    assert_eq!((first.len(), second.len()), (1, 1), "a connection keeps its lane");
    assert_ne!(first, second, "another connection, another lane");
    let brokers = parts.kafka.brokers();
    let count = usize::try_from(2 * (BATCHES * 31 + SOURCES)).unwrap();
    let events = spawn_blocking(move || published(&brokers, "pings", count)).await.unwrap();
    let mut order: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for event in events {
        order.entry((event.kind, event.source)).or_default().push(event.timestamp_ms);
    }
    assert_eq!(order.len(), usize::try_from(2 * SOURCES).unwrap());
    assert!(order.values().all(|times| times.is_sorted()), "{order:?}");
}
