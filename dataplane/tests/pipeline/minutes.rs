//! Minutes that are over, as a consumer of their topic sees them.

// The example that people copy is what reads here.
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
/// A minute that nobody can mean: a record of it makes the broker begin a new segment, and only old ones are compacted.
const NUDGE: i64 = 0;

/// Every record of the topic, in order: the minute, and when it was told of.
async fn records(parts: &Parts) -> Vec<(Summary, i64)> {
    let brokers = parts.kafka.brokers();
    let read = move || {
        let mut all = Vec::new();
        example::read(&brokers, TOPIC, |summary, at| all.push((summary, at))).map(|()| all)
    };
    let mut all = spawn_blocking(read).await.unwrap().unwrap();
    all.retain(|(summary, _)| summary.minute != NUDGE);
    all
}

/// Waits until the topic says of `minute` that it had so many events and sources; every record then.
async fn told(parts: &Parts, minute: i64, count: i64, unique: i64) -> Vec<(Summary, i64)> {
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

fn nudge(parts: &Parts) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", parts.kafka.brokers()).create().unwrap();
    let value = json!({"minute": NUDGE, "count": 0, "unique": 0}).to_string();
    producer.send(BaseRecord::to(TOPIC).key(&NUDGE.to_string()).payload(&value)).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// Two processors, of which the first to tell is killed: the other tells again what was told. Then the broker compacts.
#[tokio::test]
async fn minutes_close_by_the_clock_and_have_one_value_each_after_compaction() {
    let parts = Parts::start().await.unwrap();
    // As `migrate` makes it, but in a hurry to compact.
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
    told(&parts, minute - 1, 0, 0).await;
    processors.push(Pingd::processor(&parts, &topic).await);
    told(&parts, minute, 6, 3).await;
    // Nothing happens in the next ones; still they close. Other tests share the two cores, so that not each does within a second.
    let mut late = Vec::new();
    for silent in minute + 1..=minute + 3 {
        let all = told(&parts, silent, 0, 0).await;
        let (_, at) = all.iter().find(|(summary, _)| summary.minute == silent).unwrap();
        late.push(at - (silent + 1) * MINUTE);
        if late.last() < Some(&1_000) {
            break;
        }
    }
    println!("minutes without traffic were told of {late:?} ms after their end");
    assert!(late.iter().any(|late| (0..1_000).contains(late)), "{late:?}");
    let told_by = |all: &[(Summary, i64)]| {
        let mut times = BTreeMap::new();
        all.iter().for_each(|(summary, _)| *times.entry(summary.minute).or_insert(0) += 1);
        times
    };
    // One of them has the first partition and tells; when both were killed once, whoever it was has been.
    for processor in &mut processors {
        processor.kill_9().await;
        sleep(Duration::from_secs(8)).await;
        processor.restart();
        processor.wait_ready().await;
    }
    let started = Instant::now();
    let twice = loop {
        let times = told_by(&records(&parts).await);
        if times.values().any(|times| *times > 1) {
            break times;
        }
        assert!(started.elapsed() < TIMEOUT, "nobody told anything twice: {times:?}");
        sleep(Duration::from_millis(500)).await;
    };
    println!("how often each was told of before compaction: {twice:?}");
    let started = Instant::now();
    loop {
        nudge(&parts);
        let all = records(&parts).await;
        let newest = all.iter().map(|(summary, _)| summary.minute).max().unwrap();
        // What is told of just now is still in the segment that is written to.
        let (times, settled) = (told_by(&all), minute..=(minute + 1).min(newest));
        if settled.clone().all(|minute| times.get(&minute) == Some(&1)) {
            let brokers = parts.kafka.brokers();
            let last = spawn_blocking(move || example::last_words(&brokers, TOPIC)).await.unwrap().unwrap();
            assert_eq!(last[&minute], Summary { minute, count: 6, unique: 3 });
            assert_eq!(last[&(minute + 1)], Summary { minute: minute + 1, count: 0, unique: 0 });
            println!("compacted after {:?}", started.elapsed());
            break;
        }
        assert!(started.elapsed() < TIMEOUT, "not compacted: {all:?}");
        sleep(Duration::from_secs(1)).await;
    }
    prints(&parts, minute);
}

/// A reader whose first connections are refused, as while brokers roll, reads once one is taken.
#[tokio::test]
async fn the_example_reads_though_no_broker_can_be_reached_at_first() {
    let parts = Parts::start().await.unwrap();
    parts.kafka.create_topic(TOPIC, 1, &[]).await.unwrap();
    let port = free_port().unwrap();
    let reading = spawn_blocking(move || example::last_words(&format!("127.0.0.1:{port}"), TOPIC));
    sleep(Duration::from_secs(2)).await;
    assert!(!reading.is_finished());
    // Only the first broker's address is asked for by this door; the answer names the real one.
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let brokers = parts.kafka.brokers();
    let open = tokio::spawn(async move {
        let (mut client, _) = door.accept().await.unwrap();
        let mut broker = TcpStream::connect(brokers).await.unwrap();
        copy_bidirectional(&mut client, &mut broker).await
    });
    assert_eq!(reading.await.unwrap().unwrap(), BTreeMap::new());
    open.abort();
}

/// The example as a program, where it is built (`cargo test` of everything does; this test alone does not).
fn prints(parts: &Parts, minute: i64) {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_pingd")).with_file_name("examples").join("minutes");
    if !program.exists() {
        println!("the example is not built here; its functions were run");
        return;
    }
    let output = Command::new(program).args([&parts.kafka.brokers(), TOPIC]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let time = jiff::Timestamp::from_second(minute * 60).unwrap();
    assert!(output.status.success() && said.contains(&format!("{time} 6 events from 3 sources")), "{said}");
}
