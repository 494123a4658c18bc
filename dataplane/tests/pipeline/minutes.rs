//! Summaries of closed minutes, as a consumer of their topic reads them.

// The tests read the topic with the example that users copy.
#[path = "../../pingd/examples/minutes.rs"]
#[allow(dead_code, reason = "its `main` is run as a program")]
mod example;

use std::{collections::BTreeMap, net::Ipv4Addr, process::Command, time::Instant};

use example::Summary;
use ping_memory::SystemClock;
use ping_ports::Clock;
use ping_testbed::{Parts, ports::free_port};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
    time::{Duration, sleep},
};

use crate::processes::{Pingd, TIMEOUT};

const TOPIC: &str = "ping-minutes";
const MINUTE: i64 = 60_000;
/// A minute without events. A record of it makes the broker start a new segment; only older segments are compacted.
const FILLER_MINUTE: i64 = 0;

/// Every record of the topic, in order: the summary and when it was published.
async fn records(parts: &Parts) -> Vec<(Summary, i64)> {
    let brokers = parts.kafka.brokers();
    let read = move || {
        let mut all = Vec::new();
        example::read(&brokers, TOPIC, |summary, at| all.push((summary, at))).map(|()| all)
    };
    let mut all = spawn_blocking(read).await.unwrap().unwrap();
    all.retain(|(summary, _)| summary.minute != FILLER_MINUTE);
    all
}

/// Waits until the latest summary of `minute` has these counts; returns every record.
async fn wait_for_summary(parts: &Parts, minute: i64, count: i64, unique: i64) -> Vec<(Summary, i64)> {
    let started = Instant::now();
    loop {
        let all = records(parts).await;
        let last = all.iter().rev().find(|(summary, _)| summary.minute == minute);
        if last.is_some_and(|(summary, _)| *summary == Summary { minute, count, unique }) {
            return all;
        }
        assert!(started.elapsed() < TIMEOUT, "{all:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

fn start_segment(parts: &Parts) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", parts.kafka.brokers()).create().unwrap();
    let value = json!({"minute": FILLER_MINUTE, "count": 0, "unique": 0}).to_string();
    producer
        .send(BaseRecord::to(TOPIC).key(&FILLER_MINUTE.to_string()).payload(&value))
        .map_err(|(error, _)| error)
        .unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// Two processors. When the publishing one is killed, the other publishes the same minutes again. Then the broker compacts.
#[tokio::test]
async fn minutes_close_by_the_clock_and_have_one_value_each_after_compaction() {
    let parts = Parts::start().await.unwrap();
    // As `migrate` creates it, but compacted as soon as possible.
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "500"), ("min.cleanable.dirty.ratio", "0.001")];
    parts.kafka.create_topic(TOPIC, 1, &settings).await.unwrap();
    let topic = ["--kafka-minutes-topic", TOPIC];
    Pingd::migrate_with(&parts, &topic).await;
    let server = Pingd::server(&parts).await;
    let minute = SystemClock.now() / MINUTE;
    for source in ["a", "b", "a", "c", "a"] {
        let body = json!({"source": source, "timestampMs": minute * MINUTE});
        assert_eq!(server.ask("EventService/Record", &body).await.unwrap().0, 200);
    }
    server.call("Ping", &json!({"timestampMs": minute * MINUTE})).await.unwrap();
    let mut processors = vec![Pingd::processor(&parts, &topic).await];
    wait_for_summary(&parts, minute - 1, 0, 0).await;
    processors.push(Pingd::processor(&parts, &topic).await);
    wait_for_summary(&parts, minute, 6, 3).await;
    some_empty_minute_closes_within_a_second(&parts, minute).await;
    // The processor with the first partition publishes. Killing each once kills that one.
    for processor in &mut processors {
        processor.kill_9().await;
        sleep(Duration::from_secs(8)).await;
        processor.restart();
        processor.wait_ready().await;
    }
    some_minute_is_published_twice(&parts).await;
    compaction_keeps_the_latest(&parts, minute).await;
    example_prints(&parts, minute);
}

/// The minutes after `minute` have no events and close all the same. Other tests share the two cores, so not each closes within a
/// second.
async fn some_empty_minute_closes_within_a_second(parts: &Parts, minute: i64) {
    let mut late = Vec::new();
    for empty in minute + 1..=minute + 3 {
        let all = wait_for_summary(parts, empty, 0, 0).await;
        let (_, at) = all.iter().find(|(summary, _)| summary.minute == empty).unwrap();
        late.push(at - (empty + 1) * MINUTE);
        if late.last() < Some(&1_000) {
            break;
        }
    }
    println!("summaries of minutes without events were published {late:?} ms after the end of the minute");
    assert!(late.iter().any(|late| (0..1_000).contains(late)), "{late:?}");
}

fn records_per_minute(all: &[(Summary, i64)]) -> BTreeMap<i64, usize> {
    let mut times = BTreeMap::new();
    all.iter().for_each(|(summary, _)| *times.entry(summary.minute).or_insert(0) += 1);
    times
}

async fn some_minute_is_published_twice(parts: &Parts) {
    let started = Instant::now();
    let twice = loop {
        let times = records_per_minute(&records(parts).await);
        if times.values().any(|times| *times > 1) {
            break times;
        }
        assert!(started.elapsed() < TIMEOUT, "no summary was published twice: {times:?}");
        sleep(Duration::from_millis(500)).await;
    };
    println!("records per minute before compaction: {twice:?}");
}

async fn compaction_keeps_the_latest(parts: &Parts, minute: i64) {
    let started = Instant::now();
    loop {
        start_segment(parts);
        let all = records(parts).await;
        let newest = all.iter().map(|(summary, _)| summary.minute).max().unwrap();
        // The newest records are still in the active segment.
        let (times, settled) = (records_per_minute(&all), minute..=(minute + 1).min(newest));
        if settled.clone().all(|minute| times.get(&minute) == Some(&1)) {
            let brokers = parts.kafka.brokers();
            let latest = spawn_blocking(move || example::latest(&brokers, TOPIC)).await.unwrap().unwrap();
            assert_eq!(latest[&minute], Summary { minute, count: 6, unique: 3 });
            assert_eq!(latest[&(minute + 1)], Summary { minute: minute + 1, count: 0, unique: 0 });
            println!("compacted after {:?}", started.elapsed());
            break;
        }
        assert!(started.elapsed() < TIMEOUT, "not compacted: {all:?}");
        sleep(Duration::from_secs(1)).await;
    }
}

/// A reader whose first connections are refused, as during a rolling restart, reads once one is accepted.
#[tokio::test]
async fn the_example_reads_though_no_broker_can_be_reached_at_first() {
    let parts = Parts::start().await.unwrap();
    parts.kafka.create_topic(TOPIC, 1, &[]).await.unwrap();
    let port = free_port().unwrap();
    let reading = spawn_blocking(move || example::latest(&format!("127.0.0.1:{port}"), TOPIC));
    sleep(Duration::from_secs(2)).await;
    assert!(!reading.is_finished());
    // The client only bootstraps through this proxy; the metadata then names the real broker.
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let brokers = parts.kafka.brokers();
    let open = tokio::spawn(async move {
        let (mut client, _) = proxy.accept().await.unwrap();
        let mut broker = TcpStream::connect(brokers).await.unwrap();
        copy_bidirectional(&mut client, &mut broker).await
    });
    assert_eq!(reading.await.unwrap().unwrap(), BTreeMap::new());
    open.abort();
}

/// Runs the example as a program, if it is built: `cargo test --workspace` builds it, this test alone does not.
fn example_prints(parts: &Parts, minute: i64) {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_pingd")).with_file_name("examples").join("minutes");
    if !program.exists() {
        println!("the example is not built; only its functions were tested");
        return;
    }
    let output = Command::new(program).args([&parts.kafka.brokers(), TOPIC]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let time = jiff::Timestamp::from_second(minute * 60).unwrap();
    assert!(output.status.success() && said.contains(&format!("{time} 6 events from 3 sources")), "{said}");
}
