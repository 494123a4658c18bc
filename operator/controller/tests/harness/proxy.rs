//! A proxy between an operator and the API server. A policy of the test decides for each request whether it is forwarded, delayed,
//! answered by the proxy, left hanging, or cut off.

use std::{future::pending, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::Request,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use http::{StatusCode, header, request::Parts};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::Notify;

/// What the proxy does with a request.
#[derive(Clone, Debug)]
pub(crate) enum ProxyAction {
    /// Forward it to the API server.
    Pass,
    /// Forward it after this time.
    Delay(Duration),
    /// Neither forward nor answer it.
    Hang,
    /// Forward it, but never answer. The notification fires when the API server has answered.
    HangAfter(Arc<Notify>),
    /// Answer with this code, without forwarding it.
    Answer(StatusCode),
    /// Forward it, and cut the connection this long after the response has started, as for a dropped watch.
    BreakOff(Duration),
}

/// Decides for each request.
pub(crate) type Policy = Arc<dyn Fn(&Parts) -> ProxyAction + Send + Sync>;

/// True for requests that change something.
pub(crate) fn is_write(request: &Parts) -> bool {
    request.method != http::Method::GET
}

/// Starts a proxy to `upstream` on a free port, and returns a client that uses it. The proxy stops with the test.
pub(crate) async fn client(upstream: &Client, policy: Policy) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let upstream = upstream.clone();
    let router = Router::new().fallback(async move |request: Request| answer(&upstream, &policy, request).await);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Client::try_from(Config::new(address.parse().unwrap())).unwrap()
}

async fn answer(upstream: &Client, policy: &Policy, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match policy(&parts) {
        ProxyAction::Pass => forward(upstream, parts, body).await,
        ProxyAction::Delay(time) => {
            tokio::time::sleep(time).await;
            forward(upstream, parts, body).await
        }
        ProxyAction::Hang => pending().await,
        ProxyAction::HangAfter(done) => {
            forward(upstream, parts, body).await;
            done.notify_one();
            pending().await
        }
        ProxyAction::Answer(code) => refuse(code, "injected by the test"),
        ProxyAction::BreakOff(after) => {
            let (parts, body) = forward(upstream, parts, body).await.into_parts();
            let reset = stream::once(async { Err(axum::Error::new("the connection is reset")) });
            let broken = body.into_data_stream().take_until(tokio::time::sleep(after)).chain(reset);
            Response::from_parts(parts, Body::from_stream(broken))
        }
    }
}

/// The API server's own answer, chunk by chunk.
async fn forward(upstream: &Client, mut parts: Parts, body: Body) -> Response {
    // Theirs are for the connection to the proxy.
    parts.headers.remove(header::HOST);
    let body = to_bytes(body, usize::MAX).await.unwrap();
    match upstream.send(Request::from_parts(parts, body.into())).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => refuse(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

fn refuse(code: StatusCode, message: &str) -> Response {
    let reason = if code == StatusCode::CONFLICT { "Conflict" } else { "Injected" };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": message,
    });
    (code, Json(status)).into_response()
}
