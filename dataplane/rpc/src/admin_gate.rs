//! Admits requests to the admin port. Probes need no credentials.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use connectrpc::ConnectError;
use futures::future::{BoxFuture, FutureExt, ready};
use http::{Request, Response};
use http_body_util::Either;
use ping_transport::RequestScope;
use tower::Service;

use super::{
    access::{Access, Admission, Session},
    audit,
    front::{Answer, Protocol, complete},
    log_rate::LogRate,
    requirement,
};

/// Lines per second of the audit log about refused calls. Metrics count all of them.
const REFUSED_LINES: u32 = 10;
/// Longest name of a method in such a line. Real ones are shorter.
const METHOD_CHARS: usize = 100;

/// The services of the admin port, behind the access policy.
#[derive(Clone)]
pub struct AdminGate<S> {
    access: Access,
    refused_rate: Arc<LogRate>,
    service: S,
}

impl<S> AdminGate<S> {
    /// Passes the requests that `access` admits on to `service`.
    #[must_use]
    pub fn new(service: S, access: Access) -> Self {
        Self { access, refused_rate: Arc::new(LogRate::per_second(REFUSED_LINES)), service }
    }
}

impl<S, B, R> Service<Request<B>> for AdminGate<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<Either<Answer, R>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let refusal = Refusal::new(&request, &self.refused_rate);
        if let Err(error) = self.access.hosts().check(&request) {
            return ready(Ok(refusal.response(error))).boxed();
        }
        match self.access.admit(&request, requirement::of_admin(path)) {
            Admission::Admitted(session) => forward(self.service.clone(), request, session),
            Admission::Refused(error) => ready(Ok(refusal.response(error))).boxed(),
            Admission::Waiting(admission) => {
                let service = self.service.clone();
                Box::pin(async move {
                    match admission.await {
                        Ok(session) => forward(service, request, session).await,
                        Err(error) => Ok(refusal.response(error)),
                    }
                })
            }
        }
    }
}

fn forward<S, B, R>(
    mut service: S,
    mut request: Request<B>,
    session: Session,
) -> BoxFuture<'static, Result<Response<Either<Answer, R>>, Infallible>>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible, Future: Send + 'static>,
    R: 'static,
{
    request.extensions_mut().insert(session);
    service.call(request).map(|response| response.map(|response| response.map(Either::Right))).boxed()
}

/// What is needed to refuse a request after it is gone.
struct Refusal {
    protocol: Protocol,
    path: Box<str>,
    scope: Option<RequestScope>,
    rate: Arc<LogRate>,
}

impl Refusal {
    fn new<B>(request: &Request<B>, rate: &Arc<LogRate>) -> Self {
        Self {
            protocol: Protocol::of(request.headers()),
            path: request.uri().path().into(),
            scope: request.extensions().get().cloned(),
            rate: Arc::clone(rate),
        }
    }

    fn response<R>(self, error: ConnectError) -> Response<Either<Answer, R>> {
        // Only those of methods are admin calls.
        if self.path.starts_with("/ping.") && self.rate.may_log() {
            let method: String = self.path.trim_start_matches('/').chars().take(METHOD_CHARS).collect();
            audit::log("refused", self.scope.as_ref(), &method, error.code.as_str());
        }
        complete(self.protocol.answer(error)).map(Either::Left)
    }
}
