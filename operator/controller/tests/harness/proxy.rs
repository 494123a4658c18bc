//! A proxy between an operator and the API server. A function of the test decides about each request: it goes through, is
//! answered by the proxy, hangs, or its answer breaks off.

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

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum ProxyAction {
    /// It goes to the API server.
    Pass,
    /// It is not sent on and never answered.
    Hang,
    /// It is sent on and never answered; whoever waits is notified when the API server has answered.
    HangAfter(Arc<Notify>),
    /// It is answered with this code, and not sent on.
    Answer(StatusCode),
    /// It is sent on, and the connection is cut this long after its answer has begun: a dropped watch.
    BreakOff(Duration),
}

/// Decides about each request.
pub(crate) type Policy = Arc<dyn Fn(&Parts) -> ProxyAction + Send + Sync>;

/// True for requests that change something.
pub(crate) fn is_write(request: &Parts) -> bool {
    request.method != http::Method::GET
}

/// Starts a proxy to where `upstream` leads, on a free port, and returns a client through it. It ends with the test.
pub(crate) async fn client(upstream: &Client, judge: Policy) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let upstream = upstream.clone();
    let router = Router::new().fallback(async move |request: Request| answer(&upstream, &judge, request).await);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Client::try_from(Config::new(address.parse().unwrap())).unwrap()
}

async fn answer(upstream: &Client, judge: &Policy, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match judge(&parts) {
        ProxyAction::Pass => forward(upstream, parts, body).await,
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
