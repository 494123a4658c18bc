//! A connection to the servers of one pipeline, and the request for the count.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ping_proto::{PingCountRequest, PingCountResponse, Store};
use reqwest::{
    Certificate, Client, ClientBuilder, Identity, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

use crate::{
    incarnation::{Incarnation, IncarnationChange},
    storage::Usage,
};

/// Longest time from the start of a request to the end of its response. The stats wait for it twice before they report a server that
/// does not answer, and have three seconds for that.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1_250);
/// Longest response body in bytes. A real one has about 200. A pipeline's owner decides what answers, so the answer is not trusted.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Count and freshness of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Number of acknowledged events.
    pub total: i64,
    /// Age of the count in milliseconds.
    pub lag_ms: i64,
    /// Whether the count is known to be exact.
    pub exact: bool,
    /// Store that answered: `cache` or `database`.
    pub store: String,
    /// Time at which an audit last found the cache equal to the database, in milliseconds since the Unix epoch.
    pub last_audit_ms: Option<i64>,
    /// Whether the views per source are known to differ from the events.
    pub views_differ: bool,
    /// Time at which an audit last found the views per source equal to the events, in milliseconds since the Unix epoch.
    pub views_last_audit_ms: Option<i64>,
    /// How much Postgres stores. `None` from a server that has not measured it.
    pub storage: Option<Usage>,
    /// The last change of an incarnation. `None` if there was none, and in the first answer of a server.
    pub incarnation_change: Option<IncarnationChange>,
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// How to connect is not known.
    #[error(
        "the operator does not know how to connect, because it has rejected the spec since it started; see Stalled"
    )]
    Unconnected,
    /// The settings of the connection cannot be used.
    #[error("cannot connect to {address}: {problem}")]
    Settings {
        /// Address of the server.
        address: String,
        /// What is wrong.
        problem: String,
    },
    /// No response, or an error response.
    #[error("no server responded at {address}")]
    Request {
        /// Address of the server.
        address: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The response is too long. The rest was not read.
    #[error("the response from {address} is longer than {MAX_RESPONSE_BYTES} bytes; is it a server of this pipeline?")]
    TooLong {
        /// Address of the server.
        address: String,
    },
    /// The server answered with a redirect, which was not followed.
    #[error("{address} answered with {status}, a redirect, which is not followed; is it a server of this pipeline?")]
    Redirect {
        /// Address of the server.
        address: String,
        /// HTTP status code.
        status: u16,
    },
    /// The server does not accept the operator's token.
    #[error(
        "{address} answered with {status}: it does not accept the operator's token. A server reads a new access policy within two minutes"
    )]
    Refused {
        /// Address of the server.
        address: String,
        /// HTTP status code.
        status: u16,
    },
    /// The response is not a `PingCountResponse`.
    #[error("invalid response from {address}")]
    Response {
        /// Address of the server.
        address: String,
        /// The cause.
        source: serde_json::Error,
    },
}

/// How to connect to the servers of a pipeline.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// URL of the servers, without a path.
    pub address: String,
    /// Encryption; `None` for plaintext.
    pub tls: Option<TlsSettings>,
    /// The operator's token. It is not sent in plaintext.
    pub token: Option<String>,
}

/// How the servers are verified.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The name that their certificate must cover.
    pub host: String,
    /// PEM of the CAs; `None` for the public ones.
    pub ca: Option<Vec<u8>>,
    /// PEM of the operator's certificate and key, if servers require one.
    pub identity: Option<Vec<u8>>,
}

/// Connects on the first request, and keeps the connection.
pub struct ServerConnection {
    client: Client,
    address: String,
    /// The address with the name that the certificate covers.
    url: String,
    token: Option<String>,
}

impl ServerConnection {
    /// Connects as in `settings`.
    ///
    /// # Errors
    /// If the address is not a URL, or a certificate or key cannot be read.
    pub fn new(settings: &ConnectionSettings) -> Result<Self, StatsError> {
        let ConnectionSettings { address, tls, token } = settings;
        let invalid = |problem: &str| StatsError::Settings { address: address.clone(), problem: problem.into() };
        let unusable = |error: reqwest::Error| invalid(&crate::error::chain(&error));
        let mut url = Url::parse(address).map_err(|_| invalid("not a URL; check --server-address"))?;
        let mut builder = Client::builder().timeout(REQUEST_TIMEOUT).redirect(Policy::none()).no_proxy();
        let tls = tls.as_ref().filter(|_| url.scheme() == "https");
        if let Some(TlsSettings { host, ca, identity }) = tls {
            if let Some(ca) = ca {
                builder = trust(builder, ca).map_err(unusable)?;
            }
            if let Some(identity) = identity {
                builder = builder.identity(Identity::from_pem(identity).map_err(unusable)?);
            }
            if let Some(reachable) = url.host_str().filter(|reachable| *reachable != host) {
                let alias = Alias { name: host.clone(), target: reachable.trim_matches(['[', ']']).into() };
                builder = builder.dns_resolver(Arc::new(alias));
                url.set_host(Some(host)).map_err(|_| invalid("the certificate has no usable name"))?;
            }
        }
        let client = builder.build().map_err(unusable)?;
        let url = format!("{}/ping.v1.PingService/PingCount", url.as_str().trim_end_matches('/'));
        Ok(Self { client, address: address.clone(), url, token: token.clone().filter(|_| tls.is_some()) })
    }

    /// Requests the count.
    ///
    /// # Errors
    /// If there is no response, or it is not a count.
    pub async fn count(&self) -> Result<Count, StatsError> {
        let address = || self.address.clone();
        let failed = |source| StatsError::Request { address: address(), source };
        let mut request = self.client.post(&self.url).json(&PingCountRequest::default());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(StatsError::Redirect { address: address(), status: status.as_u16() });
        }
        if [401, 403].contains(&status.as_u16()) {
            return Err(StatsError::Refused { address: address(), status: status.as_u16() });
        }
        let body = limited_body(response.error_for_status().map_err(failed)?, &self.address).await?;
        let response: PingCountResponse =
            serde_json::from_slice(&body).map_err(|source| StatsError::Response { address: address(), source })?;
        Ok(Count {
            total: response.ping_count,
            lag_ms: response.lag_ms,
            exact: response.exact,
            last_audit_ms: response.last_audit_ms,
            views_differ: response.views_differ,
            views_last_audit_ms: response.views_last_audit_ms,
            storage: response.storage.as_option().map(|storage| Usage {
                used: storage.used_bytes,
                wal: storage.wal_bytes,
                growth_per_day: storage.growth_bytes_per_day,
            }),
            incarnation_change: response.incarnation_change.as_option().and_then(incarnation_change),
            store: if response.store.as_known() == Some(Store::Database) { "database" } else { "cache" }.into(),
        })
    }
}

/// `None` for an incarnation that this operator does not know.
fn incarnation_change(change: &ping_proto::IncarnationChange) -> Option<IncarnationChange> {
    let of = match change.incarnation.as_known()? {
        ping_proto::Incarnation::INCARNATION_STORE => Incarnation::Store,
        ping_proto::Incarnation::INCARNATION_LOG => Incarnation::Log,
        ping_proto::Incarnation::INCARNATION_UNSPECIFIED => return None,
    };
    Some(IncarnationChange { of, noticed_ms: change.noticed_ms, phantom_events: change.phantom_events })
}

/// Trusts these CAs only.
fn trust(builder: ClientBuilder, ca: &[u8]) -> Result<ClientBuilder, reqwest::Error> {
    let authorities = Certificate::from_pem_bundle(ca)?;
    Ok(authorities.into_iter().fold(builder.tls_built_in_root_certs(false), ClientBuilder::add_root_certificate))
}

/// Connects to `target` for the name that the certificate covers.
struct Alias {
    name: String,
    target: String,
}

impl Resolve for Alias {
    fn resolve(&self, name: Name) -> Resolving {
        let target = if name.as_str() == self.name { self.target.clone() } else { name.as_str().to_owned() };
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((target, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Reads the body up to `MAX_RESPONSE_BYTES`.
async fn limited_body(mut response: reqwest::Response, address: &str) -> Result<Vec<u8>, StatsError> {
    let too_long = || StatsError::TooLong { address: address.to_owned() };
    if response.content_length().is_some_and(|length| length > MAX_RESPONSE_BYTES as u64) {
        return Err(too_long());
    }
    let failed = |source| StatsError::Request { address: address.to_owned(), source };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
