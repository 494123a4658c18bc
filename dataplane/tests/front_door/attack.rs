//! Attacks a server in a container of the default size, while an honest client keeps sending.
//!
//! The attackers come from other addresses of this machine and do what the limits are for, all at once: connections that stall, large
//! and compressed bodies, streams whose answers are never read, floods of resets, forged tokens, expensive queries.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use ping_client::Client;
use ping_proto::{PingRequest, StreamPingsRequest};
use ping_testbed::{Parts, cgroup::Cgroup, pid::Pid};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    processes::{EXAMPLE, Pingd},
    wire,
};

/// Memory of the server's container by default, in bytes.
const MEMORY: u64 = 256 << 20;
/// Pings of the honest client per second.
const RATE: u64 = 1_000;
/// Calls of the honest client in flight.
const IN_FLIGHT: usize = 64;
const JSON: &str = "Content-Type: application/json\r\n";

/// What became of the honest client's events.
#[derive(Debug, Default)]
struct Honest {
    acknowledged: AtomicU64,
    exhausted: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attacked_server_stays_within_its_memory_and_counts_exactly() {
    let seconds = std::env::var("ATTACK_SECONDS").map_or(20, |text| text.parse().unwrap());
    let parts = Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let mut server = Pingd::server(&parts).await;
    let _processor = Pingd::processor(&parts, &[]).await;
    let limit = Cgroup::with_memory("attack", MEMORY).and_then(|limit| {
        limit.add(Pid::of(server.pid()).context("it has ended")?)?;
        Ok(limit)
    });
    match &limit {
        Ok(_) => println!("memory limit: 256 MiB"),
        Err(error) => println!("memory limit: none, the peak is checked at the end ({error:#})"),
    }
    let honest = Arc::new(Honest::default());
    // Before the attack, as a client that has been there for a while.
    let client = Client::connect(&server.api).await.unwrap();
    client.ping(PingRequest::default()).await.unwrap();
    let mut attackers = JoinSet::new();
    for attacker in attackers_of(&server.api) {
        attackers.spawn(attacker);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    send(client, Arc::clone(&honest), end).await;
    attackers.shutdown().await;
    let peak = server.peak_memory();
    let (acknowledged, exhausted) =
        (honest.acknowledged.load(Ordering::Relaxed), honest.exhausted.load(Ordering::Relaxed));
    println!("{acknowledged} pings in {seconds} s, {exhausted} refused and retried, peak {} MiB", peak >> 20);
    assert!(peak <= MEMORY, "the server used {peak} bytes");
    // Attackers, parts and the server share two cores.
    assert!(acknowledged > 100, "the honest client got nowhere");
    let range = json!({"timeRange": {"start": EXAMPLE, "end": EXAMPLE + 1}});
    // Until the server notices that the attackers are gone, they hold connections, and it refuses those above its limit.
    let started = Instant::now();
    while server.metric("ping_transport_connections").await >= server.metric("ping_transport_connections_limit").await {
        assert!(started.elapsed() < Duration::from_secs(60), "connections that were closed still count");
        sleep(Duration::from_millis(100)).await;
    }
    let mut strong = range.clone();
    strong["strong"] = json!(true);
    assert_eq!(server.count(strong).await.0.unsigned_abs(), acknowledged, "lost or counted twice");
    while server.call("PingCount", &range).await.unwrap().1["exact"] != json!(true) {
        assert!(started.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.terminate().await, Some(0), "it still drains\n{}", server.log_tail());
}

/// Sends a ping each millisecond, each with an id, until `end`; repeats those that are refused for lack of resources.
async fn send(client: Client, honest: Arc<Honest>, end: Instant) {
    let mut tick = interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap());
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut calls = JoinSet::new();
    while Instant::now() < end {
        tick.tick().await;
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        let (client, honest) = (client.clone(), Arc::clone(&honest));
        calls.spawn(async move {
            deliver(&client, &honest).await;
            drop(permit);
        });
        while let Some(delivered) = calls.try_join_next() {
            delivered.unwrap();
        }
    }
    while let Some(delivered) = calls.join_next().await {
        delivered.unwrap();
    }
}

async fn deliver(client: &Client, honest: &Honest) {
    let event_id = Uuid::now_v7().to_string();
    let ping = PingRequest { timestamp_ms: EXAMPLE, event_id, source: "honest".into(), ..PingRequest::default() };
    loop {
        match client.ping(ping.clone()).await {
            Ok(_) => {
                honest.acknowledged.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                honest.exhausted.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(100)).await;
            }
            Err(status) => panic!("the honest client got {status:?}"),
        }
    }
}

/// Every attack, each as a task that never ends by itself.
fn attackers_of(api: &str) -> Vec<BoxFuture<'static, ()>> {
    let stalled = |from, part: usize| stall(api.to_owned(), from, part).boxed();
    let post = |from, kind, body: Vec<u8>| flood(api.to_owned(), from, kind, body).boxed();
    let empty_events = format!("{{\"events\":[{}{{}}]}}", "{},".repeat(2_700_000));
    let query = r#"{"timeRange":{"start":1,"end":"9223372036854775807"},"step":4}"#;
    vec![
        stalled("127.0.0.2", 0),
        stalled("127.0.0.3", 60),
        stalled("127.0.0.4", 400),
        post("127.0.0.5", "EventService/RecordBatch|Content-Type: application/proto\r\n", [0x0a, 0].repeat(4 << 20)),
        post("127.0.0.6", "EventService/RecordBatch|Content-Type: application/json\r\n", empty_events.into_bytes()),
        post(
            "127.0.0.7",
            "EventService/RecordBatch|Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
            wire::gzip(&[0; 16 << 20]),
        ),
        post(
            "127.0.0.12",
            "EventService/RecordBatch|Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
            wire::gzip(format!("{{{}}}", " ".repeat((8 << 20) - 2)).as_bytes()),
        ),
        post(
            "127.0.0.8",
            "PingService/PingCount|Content-Type: application/json\r\n",
            br#"{"after":"999.0.1"}"#.to_vec(),
        ),
        post("127.0.0.9", "SourceService/TopSources|Content-Type: application/json\r\n", b"{}".to_vec()),
        post("127.0.0.10", "SourceService/Series|Content-Type: application/json\r\n", query.into()),
        unread_streams(api.to_owned()).boxed(),
        resets(api.to_owned()).boxed(),
    ]
}

/// Opens as many connections as it can; each sends the first `part` bytes of a request with a large body, and no more.
async fn stall(api: String, from: &'static str, part: usize) {
    let request = wire::request("POST", "/ping.v1.EventService/RecordBatch", JSON, &[b' '; 8 << 20]);
    let mut open = VecDeque::new();
    loop {
        if let Ok(mut connection) = wire::connect(&api, from).await {
            let _ = connection.write_all(&request[..part]).await;
            open.push_back(connection);
        }
        if open.len() > 1_000 {
            open.pop_front();
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// Sends the same request on four connections, again and again, whatever the answer.
async fn flood(api: String, from: &'static str, method: &'static str, body: Vec<u8>) {
    let (method, headers) = method.split_once('|').unwrap();
    let request = wire::request("POST", &format!("/ping.v1.{method}"), headers, &body);
    futures::stream::iter(0..4)
        .for_each_concurrent(None, |_| async {
            loop {
                if let Ok(mut connection) = wire::connect(&api, from).await {
                    let mut answer = [0; 1024];
                    while connection.write_all(&request).await.is_ok()
                        && timeout(Duration::from_secs(5), connection.read(&mut answer))
                            .await
                            .is_ok_and(|read| read.is_ok_and(|read| read > 0))
                    {}
                }
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
}

/// Streams large batches and reads no answer.
async fn unread_streams(api: String) {
    let ping = PingRequest { source: "attacker".into(), kind: "x".repeat(60), ..PingRequest::default() };
    let batch = StreamPingsRequest { pings: vec![ping; 5_000] };
    loop {
        let mut streams = Vec::new();
        for _ in 0..10 {
            let Ok(client) = Client::connect(&api).await else { continue };
            let batches = tokio_stream::iter(std::iter::repeat_n(batch.clone(), 20));
            if let Ok(Ok(stream)) = timeout(Duration::from_secs(5), client.stream_pings(batches)).await {
                streams.push((client, stream));
            }
        }
        sleep(Duration::from_secs(5)).await;
    }
}

/// Opens streams and resets them at once.
async fn resets(api: String) {
    loop {
        let Ok(connection) = wire::connect(&api, "127.0.0.11").await else { continue };
        let Ok((requests, connection)) = h2::client::handshake(connection).await else { continue };
        let connection = tokio::spawn(connection);
        let flood = async {
            loop {
                let Ok(mut requests) = requests.clone().ready().await else { return };
                let request = http::Request::post(format!("{api}/ping.v1.PingService/Ping")).body(()).unwrap();
                let Ok((_, mut stream)) = requests.send_request(request, false) else { return };
                stream.send_reset(h2::Reason::CANCEL);
                tokio::task::yield_now().await;
            }
        };
        let _ = timeout(Duration::from_secs(5), flood).await;
        connection.abort();
        sleep(Duration::from_millis(20)).await;
    }
}
