//! An issuer replaces its key while callers send events: it publishes the new key, signs with it, and withdraws the old one.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Duration, sleep},
};
use uuid::Uuid;

use crate::{
    issuer::{Key, KeyServer, claims},
    policy::call,
    processes::{Pingd, TIMEOUT},
    streams::Sender,
    tokens,
};

const RULE: &str = "- {callers: [\"cluster:*\"], permissions: [ingest]}\n";
/// How long before its first use a key is published. Servers fetch keys for an unknown one every ten seconds at most.
const PUBLISHED_AHEAD: Duration = Duration::from_secs(11);

/// Callers that send events, each with a new token. A call that fails is repeated once, with the same event id.
struct Load {
    key: Arc<RwLock<Arc<Key>>>,
    acknowledged: Arc<Mutex<BTreeSet<Uuid>>>,
    /// Calls that succeeded with the current key.
    calls: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(url: &str, key: &Arc<Key>) -> Self {
        let mut load = Self {
            key: Arc::new(RwLock::new(Arc::clone(key))),
            acknowledged: Arc::default(),
            calls: Arc::default(),
            stop: Arc::default(),
            callers: JoinSet::new(),
        };
        for caller in 0..4 {
            let (url, key, stop) = (url.to_owned(), Arc::clone(&load.key), Arc::clone(&load.stop));
            let (acknowledged, calls) = (Arc::clone(&load.acknowledged), Arc::clone(&load.calls));
            load.callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let (id, signer) = (Uuid::now_v7(), Arc::clone(&key.read()));
                    let token = signer.sign(&claims(&json!({"sub": format!("caller-{caller}"), "jti": id})));
                    let body = json!({"source": "a", "eventId": id});
                    let mut answer = call(&url, Some(&token), &body).await;
                    if answer.0 != 200 {
                        answer = call(&url, Some(&token), &body).await;
                    }
                    assert_eq!(answer.0, 200, "key {}: {}", signer.id, answer.1);
                    acknowledged.lock().insert(id);
                    calls.fetch_add(u64::from(signer.id == key.read().id), Ordering::Relaxed);
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        load
    }

    /// Waits for more calls with the current key.
    async fn continues(&mut self) {
        let (started, before) = (Instant::now(), self.calls.load(Ordering::Relaxed));
        while self.calls.load(Ordering::Relaxed) < before + 40 {
            if let Some(ended) = self.callers.try_join_next() {
                ended.expect("a caller failed");
            }
            assert!(started.elapsed() < TIMEOUT, "no calls");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn switch(&self, key: &Arc<Key>) {
        *self.key.write() = Arc::clone(key);
        self.calls.store(0, Ordering::Relaxed);
    }

    /// How many events were acknowledged.
    async fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("a caller failed");
        }
        self.acknowledged.lock().len()
    }
}

fn method(pingd: &Pingd) -> String {
    format!("{}/ping.v1.EventService/Record", pingd.api)
}

async fn record(pingd: &Pingd, token: &str) -> (u16, Value) {
    call(&method(pingd), Some(token), &json!({"source": "b"})).await
}

#[tokio::test]
async fn callers_notice_nothing_of_a_new_key_and_the_events_are_counted_once() {
    let (old, new) = (Arc::new(Key::new("old")), Arc::new(Key::new("new")));
    let keys = KeyServer::start(&[&old]).await;
    let (pingd, _policy) = tokens::server(&keys, RULE).await;
    let mut load = Load::start(&method(&pingd), &old);
    load.continues().await;
    keys.publish(&[&old, &new]);
    sleep(PUBLISHED_AHEAD).await;
    load.continues().await;
    load.switch(&new);
    load.continues().await;
    keys.publish(&[&new]);
    // A token with an unknown key makes the server fetch them again.
    let started = Instant::now();
    let gone = old.sign(&claims(&json!({})));
    while record(&pingd, &gone).await.0 != 401 {
        let unknown = Key::new("unknown").sign(&claims(&json!({})));
        assert_eq!(record(&pingd, &unknown).await.0, 401);
        assert!(started.elapsed() < TIMEOUT, "the withdrawn key is still used");
        sleep(Duration::from_secs(1)).await;
    }
    load.continues().await;
    let acknowledged = load.finish().await;
    let (status, verified) =
        call(&format!("{}/ping.v1.AdminService/Verify", pingd.admin), Some("s3cret-ops"), &json!({})).await;
    assert_eq!((status, &verified["exact"]), (200, &json!(true)), "{verified}");
    println!("{acknowledged} events were acknowledged");
    let url = format!("{}/ping.v1.SourceService/SourceStats", pingd.api);
    let expected = json!(acknowledged.to_string());
    while call(&url, Some("s3cret-ops"), &json!({"source": "a"})).await.1["count"] != expected {
        assert!(started.elapsed() < TIMEOUT, "not all were counted once");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Someone who stole the old key may have made tokens that are valid for years.
#[tokio::test]
async fn a_withdrawn_key_ends_the_tokens_and_streams_that_were_accepted_before() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let keys = KeyServer::start(&[&old, &new]).await;
    let (pingd, _policy) = tokens::server(&keys, RULE).await;
    let [stolen, valid] = [&old, &new].map(|key| key.sign(&claims(&json!({}))));
    let (mut of_old, mut of_new) = (Sender::open(&pingd, &stolen).await, Sender::open(&pingd, &valid).await);
    for stream in [&mut of_old, &mut of_new] {
        stream.send("a").await.unwrap();
    }
    assert_eq!((record(&pingd, &stolen).await.0, record(&pingd, &valid).await.0), (200, 200));
    keys.publish(&[&new]);
    let started = Instant::now();
    while record(&pingd, &stolen).await.0 == 200 {
        let unknown = Key::new("unknown").sign(&claims(&json!({})));
        assert_eq!(record(&pingd, &unknown).await.0, 401);
        assert!(started.elapsed() < TIMEOUT, "the withdrawn key is still used");
        sleep(Duration::from_secs(1)).await;
    }
    let (status, answer) = record(&pingd, &stolen).await;
    assert!(status == 401 && answer["message"].as_str().unwrap().contains("does not publish"), "{answer}");
    let error = of_old.send("a").await.unwrap_err();
    assert!(error.code() == tonic::Code::Unauthenticated && error.message().contains("revoked"), "{error}");
    of_new.send("a").await.unwrap();
    assert_eq!(record(&pingd, &valid).await.0, 200);
}
