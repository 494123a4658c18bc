//! Readers who ask for counts and statuses all the time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ping_history::{Count, Includes, Interval, Status};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::callers::{CALLERS, Load, now, source};

/// Minutes before and after the start of a test that a range covers: fewer than the cache keeps.
const AROUND: i64 = 30;

/// What a reader asks for.
#[derive(Clone, Copy, Debug)]
pub enum Question {
    Cached,
    Strong,
    After,
    Status,
    /// Of a range that all events of the test are in.
    Range,
}

impl Question {
    /// Those that hold for any number of periods.
    pub const ALL: [Self; 4] = [Self::Cached, Self::Strong, Self::After, Self::Status];
}

/// Asks one question all the time, until the load stops. A call that fails has no answer that could be wrong.
pub async fn read(load: Arc<Load>, api: String, question: Question) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
    let minute = now() / 60_000_000;
    let range = json!({"start": (minute - AROUND) * 60_000, "end": (minute + AROUND) * 60_000});
    for turn in 0_usize.. {
        if load.stop.load(Ordering::Relaxed) {
            return;
        }
        match question {
            Question::Cached => count(&load, &http, &api, Includes::AsOf, json!({})).await,
            Question::Strong => count(&load, &http, &api, Includes::Strong, json!({"strong": true})).await,
            Question::After => {
                let recent = load.recent.lock().clone();
                if let Some((event, token)) = recent {
                    count(&load, &http, &api, Includes::After(event), json!({"after": token})).await;
                }
            }
            Question::Range => count(&load, &http, &api, Includes::AsOf, json!({"timeRange": range})).await,
            Question::Status => status(&load, &http, &api, &source((turn * 2 + 1) % CALLERS)).await,
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Calls a method; the answer, if there is one.
async fn ask(http: &reqwest::Client, api: &str, method: &str, body: &Value) -> Option<(Interval, Value)> {
    let began = now();
    let answer = http.post(format!("{api}/ping.v1.{method}")).json(body).send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let answer = answer.json().await.ok()?;
    Some((Interval { began, ended: now() }, answer))
}

async fn count(load: &Load, http: &reqwest::Client, api: &str, includes: Includes, body: Value) {
    let Some((at, answer)) = ask(http, api, "PingService/PingCount", &body).await else { return };
    // JSON has 64-bit numbers as text.
    let number = |field: &str| answer[field].as_str().unwrap().parse().unwrap();
    let exact = answer["exact"] == true;
    load.history.lock().count(at, Count { includes, count: number("pingCount"), as_of_ms: number("asOfMs"), exact });
}

async fn status(load: &Load, http: &reqwest::Client, api: &str, source: &str) {
    let Some((at, answer)) = ask(http, api, "SourceService/GetStatus", &json!({"source": source})).await else {
        return;
    };
    let status = if answer["final"] == true { Status::Final } else { Status::Open };
    load.history.lock().status(source, at, status);
}
