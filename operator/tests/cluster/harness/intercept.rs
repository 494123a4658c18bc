//! A client whose requests pass through a function of the test: it may let them go, answer itself, or let them hang.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Full};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, DynBody},
};
use serde_json::json;
use tower::{BoxError, Service, layer::layer_fn};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes to the API server.
    Pass,
    /// It is never sent, and never answered: the operator was killed before it.
    HangBefore,
    /// It is sent, and its answer never arrives: the operator was killed after it.
    HangAfter,
    /// It is answered with this code, and not sent.
    Answer(u16),
    /// It is sent, and the answer's body breaks off after this time: a dropped watch.
    BreakOff(Duration),
}

/// Decides about each request.
pub(crate) type Judge = Arc<dyn Fn(&Request<Body>) -> Fate + Send + Sync>;

/// True for requests that change something.
pub(crate) fn is_write(request: &Request<Body>) -> bool {
    request.method() != http::Method::GET
}

/// A client of `config` whose requests pass through `judge`.
pub(crate) fn client(config: Config, judge: Judge) -> Client {
    let layer = layer_fn(move |inner| Intercepted { inner, judge: judge.clone() });
    ClientBuilder::try_from(config).unwrap().with_layer(&layer).build()
}

struct Intercepted<S> {
    inner: S,
    judge: Judge,
}

impl<S> Service<Request<Body>> for Intercepted<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match (self.judge)(&request) {
            Fate::Pass => self.inner.call(request).boxed(),
            Fate::HangBefore => futures::future::pending().boxed(),
            Fate::HangAfter => {
                let answer = self.inner.call(request);
                async move {
                    let _ = answer.await;
                    futures::future::pending().await
                }
                .boxed()
            }
            Fate::Answer(code) => async move { Ok(answer(code)) }.boxed(),
            Fate::BreakOff(after) => {
                let answer = self.inner.call(request);
                async move { Ok(answer.await?.map(|body| broken(body, after))) }.boxed()
            }
        }
    }
}

fn answer(code: u16) -> Response<Box<DynBody>> {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
        "reason": if code == 409 { "Conflict" } else { "Injected" }, "message": "injected by the test",
    });
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never| -> BoxError { match never {} });
    Response::builder().status(code).body(Box::new(body) as Box<DynBody>).unwrap()
}

fn broken(body: Box<DynBody>, after: Duration) -> Box<DynBody> {
    Box::new(Broken { body, end: Box::pin(tokio::time::sleep(after)) })
}

struct Broken {
    body: Box<DynBody>,
    end: Pin<Box<tokio::time::Sleep>>,
}

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.end.as_mut().poll_unpin(context).is_ready() {
            return Poll::Ready(Some(Err("the connection was reset".into())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}
