//! Callers who send events, and the history of all calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use ping_history::{History, Interval, Micros, Outcome};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

/// Concurrent callers.
pub const CALLERS: usize = 16;
/// Every 400th event of a source makes its status negative: rare, so that statuses change throughout the test.
const FAILED_EVERY: u64 = 400;

/// What the callers and the readers have seen.
#[derive(Default)]
pub struct Load {
    pub history: Mutex<History>,
    pub acknowledged: Mutex<Vec<Uuid>>,
    /// An event that was acknowledged not long ago, and its token.
    pub recent: Mutex<Option<(Uuid, String)>>,
    pub count: AtomicU64,
    pub retries: AtomicU64,
    pub stop: AtomicBool,
}

/// The source of a caller: half of them have none.
pub fn source(caller: usize) -> String {
    if caller.is_multiple_of(2) { String::new() } else { format!("caller-{caller}") }
}

/// The clock of the history, which is also the servers'.
pub fn now() -> Micros {
    jiff::Timestamp::now().as_microsecond()
}

/// One caller: sends events, and retries each with the same id until it is acknowledged.
pub async fn call(load: Arc<Load>, api: String, caller: usize) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let url = format!("{api}/ping.v1.PingService/Ping");
    for number in 1_u64.. {
        if load.stop.load(Ordering::Relaxed) {
            return;
        }
        let event = Uuid::now_v7();
        let kind = if number.is_multiple_of(FAILED_EVERY) { "failed" } else { "" };
        let timestamp = jiff::Timestamp::now().as_millisecond();
        let body = json!({"eventId": event, "timestampMs": timestamp, "source": source(caller), "kind": kind, "receipt": true});
        let token = loop {
            let began = now();
            let answer = send(&http, &url, &body).await;
            let outcome = if answer.is_ok() { Outcome::Acknowledged } else { Outcome::Unknown };
            load.history.lock().record(event, Interval { began, ended: now() }, outcome);
            match answer {
                Ok(answer) => break answer["token"].as_str().map(str::to_owned),
                Err(()) => {
                    load.retries.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        // A retry of an event that had been recorded before gets no token.
        if let Some(token) = token {
            *load.recent.lock() = Some((event, token));
        }
        load.acknowledged.lock().push(event);
        load.count.fetch_add(1, Ordering::Relaxed);
        // Moderate load is enough: what matters is that calls are in flight when a component is killed.
        sleep(Duration::from_millis(2)).await;
    }
}

/// Sends an event once. An error: it may have been recorded.
async fn send(http: &reqwest::Client, url: &str, body: &Value) -> Result<Value, ()> {
    match http.post(url).json(body).send().await {
        Ok(answer) if answer.status().is_success() => answer.json().await.map_err(drop),
        Ok(answer) if answer.status().is_client_error() && answer.status() != 429 => {
            panic!("refused: {}", answer.text().await.unwrap());
        }
        _ => Err(()),
    }
}
