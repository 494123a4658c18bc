//! What a service may know of a request besides its message.

use std::{net::SocketAddr, sync::Arc};

use http::HeaderMap;

use crate::{Account, CallerAddress, PeerCertificate, TrustedProxies};

/// An extension of every request: where it comes from, and what it holds of the budget. Cheap to clone.
#[derive(Clone)]
pub struct RequestScope {
    /// What the request holds of the budget.
    pub account: Arc<Account>,
    /// The address that the connection comes from.
    pub peer: SocketAddr,
    /// The certificate that the peer presented, if it presented one.
    pub certificate: Option<Arc<PeerCertificate>>,
    proxies: TrustedProxies,
}

impl RequestScope {
    /// The scope of a request from `peer`, which holds what `account` says.
    #[must_use]
    pub fn new(account: Arc<Account>, peer: SocketAddr, proxies: TrustedProxies) -> Self {
        Self { account, peer, certificate: None, proxies }
    }

    /// The same scope, of a connection whose peer presented `certificate`.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<Arc<PeerCertificate>>) -> Self {
        Self { certificate, ..self }
    }

    /// The address of the caller of a request with these headers.
    #[must_use]
    pub fn caller(&self, headers: &HeaderMap) -> CallerAddress {
        self.proxies.caller(self.peer, headers)
    }
}
