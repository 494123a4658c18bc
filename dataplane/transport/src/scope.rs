//! What a service may know of a request besides its message.

use std::{net::SocketAddr, sync::Arc};

use http::HeaderMap;

use crate::{Account, CallerAddress, TrustedProxies};

/// An extension of every request: where it comes from, and what it holds of the budget. Cheap to clone.
#[derive(Clone)]
pub struct RequestScope {
    /// What the request holds of the budget.
    pub account: Arc<Account>,
    peer: SocketAddr,
    proxies: TrustedProxies,
}

impl RequestScope {
    /// The scope of a request from `peer`, which holds what `account` says.
    #[must_use]
    pub fn new(account: Arc<Account>, peer: SocketAddr, proxies: TrustedProxies) -> Self {
        Self { account, peer, proxies }
    }

    /// The address of the caller of a request with these headers.
    #[must_use]
    pub fn caller(&self, headers: &HeaderMap) -> CallerAddress {
        self.proxies.caller(self.peer, headers)
    }
}
