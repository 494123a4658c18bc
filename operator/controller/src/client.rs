//! The client for the API server. It counts every response.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Service, layer::layer_fn};

use crate::metrics::Metrics;

/// Creates a client from `config`; `metrics` counts its responses.
///
/// # Errors
/// If the configuration is invalid, for example a certificate that does not parse.
pub fn connect(config: Config, metrics: Arc<Metrics>) -> Result<Client, kube::Error> {
    let counted = layer_fn(move |inner| Counted { inner, metrics: metrics.clone() });
    Ok(ClientBuilder::try_from(config)?.with_layer(&counted).build())
}

/// Counts responses by method and status code.
struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let metrics = self.metrics.clone();
        let method = request.method().clone();
        let response = self.inner.call(request);
        response
            .inspect(move |response| {
                let code = response.as_ref().map_or(0, |response| response.status().as_u16());
                metrics.request(method.as_str(), code);
            })
            .boxed()
    }
}
