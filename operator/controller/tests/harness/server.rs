//! A fake server of a pipeline.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

/// Starts a server that has counted 42 events, at `address` and a free port. Recounts need the token `the first token`. It stops with
/// the test.
pub(crate) async fn server(address: IpAddr) -> SocketAddr {
    let count = async || {
        let now = Timestamp::now().as_millisecond().to_string();
        Json(json!({
            "pingCount": "42", "asOfMs": "1", "lagMs": "12", "exact": true, "store": "STORE_CACHE", "lastAuditMs": now,
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
