//! Who may call: authenticates each call before its body is read, and checks what it concerns once it is decoded.

use std::{sync::Arc, time::SystemTime};

use connectrpc::{ConnectError, RequestContext};
use futures::future::BoxFuture;
use http::{HeaderValue, Request, header};
use ping_identity::{
    AuthenticationError, Authenticator, Caller, CallerQuota, Certificate, Credentials, Extent, Lookup, Permission,
};
use ping_ports::TraceContext;
use ping_transport::RequestScope;

use super::{errors, hosts::Hosts, log_rate::LogRate, metrics::AccessMetrics, requirement::Requirement};

/// Log lines per second about refused callers.
const LOG_LINES: u32 = 1;

/// Who may use reflection, which describes the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflection {
    /// Anyone.
    Open,
    /// Callers with valid credentials.
    Authenticated,
    /// No one.
    Off,
}

/// Decides who may call. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Settings>);

struct Settings {
    /// None: everyone may do everything.
    authenticator: Option<Authenticator>,
    reflection: Reflection,
    /// Origins of pages that may call from a browser.
    origins: Vec<HeaderValue>,
    hosts: Hosts,
    metrics: AccessMetrics,
    log_rate: LogRate,
}

impl Access {
    /// Access by the policy of `authenticator`, or for everyone if there is none. `origins` are the origins of the pages, other than
    /// the server's own, that may call from a browser, and `hosts` the hosts that requests may name.
    #[must_use]
    pub fn new(
        authenticator: Option<Authenticator>,
        reflection: Reflection,
        origins: Vec<HeaderValue>,
        hosts: Hosts,
        metrics: AccessMetrics,
    ) -> Self {
        let log_rate = LogRate::per_second(LOG_LINES);
        Self(Arc::new(Settings { authenticator, reflection, origins, hosts, metrics, log_rate }))
    }

    /// Who may use reflection.
    pub(super) fn reflection(&self) -> Reflection {
        self.0.reflection
    }

    pub(super) fn origins(&self) -> &[HeaderValue] {
        &self.0.origins
    }

    pub(super) fn hosts(&self) -> Hosts {
        self.0.hosts
    }

    /// Whether the page works without a token.
    pub(super) fn is_page_open(&self) -> bool {
        self.0.authenticator.as_ref().is_none_or(|authenticator| authenticator.anonymous().has(Permission::Read))
    }

    /// Whether the caller of `request` may make a call that needs `requirement`.
    pub(super) fn admit<B>(&self, request: &Request<B>, requirement: Requirement) -> Admission {
        let Some(authenticator) = &self.0.authenticator else { return Admission::Admitted(self.session(None)) };
        if requirement == Requirement::Nothing {
            return Admission::Admitted(self.session(Some(authenticator.anonymous())));
        }
        let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
        let authorization = headers.next().map(HeaderValue::as_bytes);
        if headers.next().is_some() {
            return Admission::Refused(self.refused(&AuthenticationError::Scheme));
        }
        let scope = request.extensions().get::<RequestScope>();
        let certificate = scope.and_then(|scope| scope.certificate.as_deref()).map(|certificate| Certificate {
            name: certificate.name.as_deref(),
            expires: certificate.expires,
            digest: certificate.digest,
        });
        match authenticator.authenticate(Credentials { authorization, certificate }, unix_seconds()) {
            Lookup::Known(result) => match self.check(result, requirement) {
                Ok(session) => Admission::Admitted(session),
                Err(error) => Admission::Refused(error),
            },
            Lookup::Unknown(verification) => {
                let access = self.clone();
                Admission::Waiting(Box::pin(async move { access.check(verification.run().await, requirement) }))
            }
        }
    }

    fn check(
        &self,
        result: Result<Arc<Caller>, AuthenticationError>,
        requirement: Requirement,
    ) -> Result<Session, ConnectError> {
        let caller = result.map_err(|error| self.refused(&error))?;
        let has =
            |permission| caller.has(permission) || (permission == Permission::Metrics && caller.has(Permission::Admin));
        match requirement {
            Requirement::Credentials if caller.is_anonymous() => {
                Err(self.refused(&AuthenticationError::Missing("reflection")))
            }
            Requirement::Permission(permission) if !has(permission) => {
                if caller.is_anonymous() {
                    return Err(self.refused(&AuthenticationError::Missing(permission.as_str())));
                }
                Err(self.denied(permission, &caller, &caller.lacks(permission).to_string()))
            }
            _ => Ok(self.session(Some(caller))),
        }
    }

    fn session(&self, caller: Option<Arc<Caller>>) -> Session {
        Session { caller, access: self.clone(), trace: None }
    }

    fn refused(&self, error: &AuthenticationError) -> ConnectError {
        self.0.metrics.unauthenticated.get_or_create(&[("reason", error.reason())]).inc();
        if self.0.log_rate.may_log() {
            tracing::warn!(reason = error.reason(), "calls without valid credentials are refused: {error}");
        }
        errors::unauthenticated(error)
    }

    fn denied(&self, permission: Permission, caller: &Caller, message: &str) -> ConnectError {
        self.0.metrics.permission_denied.get_or_create(&[("permission", permission.as_str())]).inc();
        if self.0.log_rate.may_log() {
            tracing::warn!(caller = caller.name(), permission = permission.as_str(), "a call is denied: {message}");
        }
        errors::permission_denied(message)
    }
}

/// Seconds since the Unix epoch, for the expiry of credentials.
fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Whether a call may begin.
pub(super) enum Admission {
    Admitted(Session),
    Refused(ConnectError),
    /// The keys to check the token with are being fetched.
    Waiting(BoxFuture<'static, Result<Session, ConnectError>>),
}

/// The caller of one call. An extension of every request that was admitted.
#[derive(Clone)]
pub(super) struct Session {
    /// None: everyone may do everything.
    caller: Option<Arc<Caller>>,
    access: Access,
    /// The span of the call, if it is traced.
    trace: Option<TraceContext>,
}

impl Session {
    /// The session of a call.
    ///
    /// # Errors
    /// When the call was not admitted, which is a defect: nothing may be done for it.
    pub(super) fn of(context: &RequestContext) -> Result<&Self, ConnectError> {
        context.extensions().get().ok_or_else(errors::not_admitted)
    }

    /// The same session, of a call with this span.
    pub(super) fn traced(self, trace: Option<&TraceContext>) -> Self {
        Self { trace: trace.cloned(), ..self }
    }

    /// The span of the call, if it is traced.
    pub(super) fn trace(&self) -> Option<TraceContext> {
        self.trace.clone()
    }

    /// The caller's name, for the audit log.
    pub(super) fn name(&self) -> &str {
        self.caller.as_ref().map_or("anonymous", |caller| caller.name())
    }

    /// Whether everyone may do everything.
    pub(super) fn is_open(&self) -> bool {
        self.caller.is_none()
    }

    /// The quotas that cover the caller.
    pub(super) fn quotas(&self) -> &[CallerQuota] {
        self.caller.as_ref().map_or(&[], |caller| caller.quotas())
    }

    /// Checks that the caller has the permission for `source` and `kind`.
    pub(super) fn authorize(
        &self,
        permission: Permission,
        source: Extent<'_>,
        kind: Extent<'_>,
    ) -> Result<(), ConnectError> {
        let Some(caller) = &self.caller else { return Ok(()) };
        let authorized = caller.authorize(permission, source, kind);
        authorized.map_err(|denied| self.access.denied(permission, caller, &denied.to_string()))
    }

    /// Checks that the caller may read what concerns `source`, of all kinds.
    pub(super) fn authorize_read(&self, source: Extent<'_>) -> Result<(), ConnectError> {
        self.authorize(Permission::Read, source, Extent::All)
    }

    /// The session of a stream that continues: its credentials may have expired, and the access policy may have changed.
    pub(super) fn renewed(&self) -> Result<Self, ConnectError> {
        let (Some(caller), Some(authenticator)) = (&self.caller, &self.access.0.authenticator) else {
            return Ok(self.clone());
        };
        let caller = authenticator.renew(caller, unix_seconds()).map_err(|error| self.access.refused(&error))?;
        Ok(Self { caller: Some(caller), ..self.clone() })
    }
}
