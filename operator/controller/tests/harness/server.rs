//! A fake server of a pipeline.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// How a server answers a request for the count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 42, exact and fresh.
    Fresh,
    /// 42, which may not be exact.
    Inexact,
    /// 42, a minute old.
    Old,
    /// Never: it accepts the request and is silent.
    Silent,
}

/// Starts a server that has counted 42 events, none of them in any time range, and has two dead letters, at `address` and a free port.
/// Recounts, dead letters and events need the token `the first token`. It stops with the test.
pub(crate) async fn server(address: IpAddr) -> SocketAddr {
    server_with(address, Arc::new(Mutex::new(Answer::Fresh))).await
}

/// The same, with the answer that `answer` has at the time.
pub(crate) async fn server_with(address: IpAddr, answer: Arc<Mutex<Answer>>) -> SocketAddr {
    let count = async move |Json(request): Json<Value>| {
        let answer = *answer.lock().unwrap();
        if answer == Answer::Silent {
            std::future::pending::<()>().await;
        }
        let lag = if answer == Answer::Old { "60000" } else { "12" };
        let now = Timestamp::now().as_millisecond().to_string();
        Json(json!({
            "pingCount": if request["timeRange"].is_null() { "42" } else { "0" }, "asOfMs": "1", "lagMs": lag, "exact": answer != Answer::Inexact, "store": "STORE_CACHE",
            "lastAuditMs": now,
        }))
    };
    let verify = async |headers: HeaderMap| {
        authorize(&headers)?;
        Ok::<_, StatusCode>(Json(json!({
            "exact": true, "rows": "42", "total": "42", "minutesTotal": "42", "daysTotal": "42", "cacheTotal": "42",
            "minutesCompared": "1", "differences": [],
        })))
    };
    let recorded = Arc::new(Mutex::new(BTreeSet::new()));
    let ping = async move |headers: HeaderMap, Json(event): Json<Value>| {
        authorize(&headers)?;
        let is_new = recorded.lock().unwrap().insert(event["eventId"].as_str().unwrap().to_owned());
        Ok::<_, StatusCode>(Json(if is_new { json!({ "token": "1-0-1" }) } else { json!({}) }))
    };
    let router = Router::new()
        .route("/ping.v1.PingService/PingCount", post(count))
        .route("/ping.v1.PingService/Ping", post(ping))
        .route("/ping.v1.AdminService/Verify", post(verify))
        .route("/ping.v1.AdminService/DeadLetters", post(dead_letters));
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn authorize(headers: &HeaderMap) -> Result<(), StatusCode> {
    match headers.get("authorization").is_some_and(|value| value == "Bearer the first token") {
        true => Ok(()),
        false => Err(StatusCode::UNAUTHORIZED),
    }
}

/// Two pages: an event, and a record that is none.
async fn dead_letters(headers: HeaderMap, Json(request): Json<Value>) -> Result<Json<Value>, StatusCode> {
    authorize(&headers)?;
    let event = json!({ "eventId": "018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f", "source": "shop-7", "timestampMs": "1728926331000" });
    let restored =
        json!({ "place": "pings/0/42", "sentMs": "1728926331000", "reason": "it was restored", "event": event });
    let foreign = json!({ "place": "pings/1/7", "reason": "not an event", "value": "AQI=" });
    Ok(Json(match request["pageToken"].as_str() {
        None | Some("") => json!({ "letters": [restored], "nextPageToken": "0/1" }),
        Some(_) => json!({ "letters": [foreign], "nextPageToken": "" }),
    }))
}
