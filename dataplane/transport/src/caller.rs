//! The caller's address: that of the connection or, behind trusted proxies, the forwarded client address.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::HeaderMap;
use ipnet::IpNet;

/// The caller's address, as used for the source of events that have none. Empty if it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerAddress(pub Box<str>);

/// Proxies whose `X-Forwarded-For` is trusted. Any other caller could forge the header.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts all addresses in `networks`.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The caller behind the connection from `peer`. Each proxy appends the address it was called from, so the last address that is
    /// not a trusted proxy is the caller's. The caller itself may have written the addresses before it.
    pub(crate) fn caller(&self, peer: SocketAddr, headers: &HeaderMap) -> CallerAddress {
        let mut address = peer.ip().to_canonical();
        let forwarded = headers.get_all("x-forwarded-for");
        let mut hops: Vec<_> = forwarded.iter().filter_map(|value| value.to_str().ok()).collect();
        while self.is_trusted(address) {
            let Some(list) = hops.pop() else { break };
            let (before, hop) = list.rsplit_once(',').unwrap_or(("", list));
            if !before.is_empty() {
                hops.push(before);
            }
            let Some(hop) = parse(hop.trim()) else { break };
            address = hop;
        }
        CallerAddress(address.to_string().into())
    }
}

/// An address with or without a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let address = hop.parse().or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
    address
        .ok()
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn caller(peer: &str, forwarded: &[&'static str]) -> String {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        proxies.caller(peer.parse().unwrap(), &headers).0.into()
    }

    #[test]
    fn an_untrusted_peer_is_the_caller_whatever_it_forwards() {
        assert_eq!(caller("192.0.2.1:5000", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(caller("[::ffff:192.0.2.1]:5000", &[]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_forwards_the_callers_address() {
        assert_eq!(caller("10.1.2.3:80", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            caller("10.1.2.3:80", &["203.0.113.9, 198.51.100.7"]),
            "198.51.100.7",
            "the caller may have written the first address"
        );
        assert_eq!(caller("10.1.2.3:80", &["203.0.113.9", "198.51.100.7,10.9.9.9"]), "198.51.100.7");
        assert_eq!(caller("[fd00::1]:80", &["[2001:db8::5]:1234"]), "2001:db8::5");
        assert_eq!(caller("10.1.2.3:80", &["198.51.100.7:1234"]), "198.51.100.7");
    }

    #[test]
    fn a_proxy_that_forwards_no_address_is_the_caller() {
        assert_eq!(caller("10.1.2.3:80", &[]), "10.1.2.3");
        assert_eq!(caller("10.1.2.3:80", &["unknown"]), "10.1.2.3");
        assert_eq!(caller("10.1.2.3:80", &["10.4.4.4"]), "10.4.4.4");
    }
}
