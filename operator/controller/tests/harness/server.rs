//! A fake server of a pipeline.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

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

/// Starts a server that has counted 42 events, at `address` and a free port. Recounts need the token `the first token`. It stops with
/// the test.
pub(crate) async fn server(address: IpAddr) -> SocketAddr {
    server_with(address, Arc::new(Mutex::new(Answer::Fresh))).await
}

/// The same, with the answer that `answer` has at the time.
pub(crate) async fn server_with(address: IpAddr, answer: Arc<Mutex<Answer>>) -> SocketAddr {
    let count = async move || {
        let answer = *answer.lock().unwrap();
        if answer == Answer::Silent {
            std::future::pending::<()>().await;
        }
        let lag = if answer == Answer::Old { "60000" } else { "12" };
        let now = Timestamp::now().as_millisecond().to_string();
        Json(json!({
            "pingCount": "42", "asOfMs": "1", "lagMs": lag, "exact": answer != Answer::Inexact, "store": "STORE_CACHE",
            "lastAuditMs": now,
        }))
    };
    let verify = async |headers: HeaderMap| {
        if headers.get("authorization").is_none_or(|value| value != "Bearer the first token") {
            return Err(StatusCode::UNAUTHORIZED);
        }
        Ok(Json(json!({
            "exact": true, "rows": "42", "total": "42", "minutesTotal": "42", "daysTotal": "42", "cacheTotal": "42",
            "minutesCompared": "1", "differences": [],
        })))
    };
    let router = Router::new()
        .route("/ping.v1.PingService/PingCount", post(count))
        .route("/ping.v1.AdminService/Verify", post(verify));
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
