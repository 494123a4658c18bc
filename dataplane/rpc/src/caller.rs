//! Who calls: the address a connection comes from or, behind proxies that are trusted, the one they forward.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::HeaderMap;
use ipnet::IpNet;

/// The caller's address as a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller(pub(super) Box<str>);

/// Proxies whose `X-Forwarded-For` is believed. Anybody else could claim to be anybody.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Who is behind the connection from `peer`: each proxy adds whom it heard from at the end, so the last address that is
    /// not a proxy of ours is the caller's. What stands before it is the caller's own claim.
    pub(super) fn caller(&self, peer: SocketAddr, headers: &HeaderMap) -> Caller {
        let mut address = peer.ip().to_canonical();
        let forwarded = headers.get_all("x-forwarded-for");
        let mut hops: Vec<_> = forwarded.iter().filter_map(|value| value.to_str().ok()).collect();
        while self.trust(address) {
            let Some(list) = hops.pop() else { break };
            let (before, hop) = list.rsplit_once(',').unwrap_or(("", list));
            if !before.is_empty() {
                hops.push(before);
            }
            let Some(hop) = parse(hop.trim()) else { break };
            address = hop;
        }
        Caller(address.to_string().into())
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
    fn a_stranger_is_who_it_connects_as_whatever_it_claims() {
        assert_eq!(caller("192.0.2.1:5000", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(caller("[::ffff:192.0.2.1]:5000", &[]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_tells_who_it_heard_from() {
        assert_eq!(caller("10.1.2.3:80", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(caller("10.1.2.3:80", &["203.0.113.9, 198.51.100.7"]), "198.51.100.7", "before it is only a claim");
        assert_eq!(caller("10.1.2.3:80", &["203.0.113.9", "198.51.100.7,10.9.9.9"]), "198.51.100.7");
        assert_eq!(caller("[fd00::1]:80", &["[2001:db8::5]:1234"]), "2001:db8::5");
        assert_eq!(caller("10.1.2.3:80", &["198.51.100.7:1234"]), "198.51.100.7");
    }

    #[test]
    fn without_a_word_from_it_the_proxy_is_the_caller() {
        assert_eq!(caller("10.1.2.3:80", &[]), "10.1.2.3");
        assert_eq!(caller("10.1.2.3:80", &["unknown"]), "10.1.2.3");
        assert_eq!(caller("10.1.2.3:80", &["10.4.4.4"]), "10.4.4.4");
    }
}
