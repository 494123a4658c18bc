//! Which hosts requests may name.
//!
//! A server that everyone may call listens on loopback. A web page of another origin cannot read its answers, unless the name of its host
//! resolves to 127.0.0.1 (DNS rebinding): then both have one origin. The request still names that host.

use std::net::IpAddr;

use connectrpc::ConnectError;
use http::{HeaderValue, Request, Version, header, uri::Authority};

const REFUSED: &str = "without an access policy, the server answers requests to localhost or an IP address only, because a web page could \
                       reach it by any other name; use http://localhost, or start the server with --insecure to allow all names";

/// Which hosts requests may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any.
    All,
    /// `localhost` and IP addresses, which no name server can redirect.
    Local,
}

impl Hosts {
    /// Refuses a request that names a host which it may not name.
    pub(super) fn check<B>(self, request: &Request<B>) -> Result<(), ConnectError> {
        let is_allowed = self == Self::All || is_local(request);
        if is_allowed { Ok(()) } else { Err(ConnectError::permission_denied(REFUSED)) }
    }
}

/// Whether the request names a local host only. Browsers use HTTP/2 only with TLS, where the certificate would not match the name.
fn is_local<B>(request: &Request<B>) -> bool {
    if request.version() >= Version::HTTP_2 {
        return true;
    }
    let hosts = request.headers().get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    hosts.chain(request.uri().authority().map(|authority| authority.as_str().as_bytes())).all(is_local_host)
}

fn is_local_host(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let host = authority.host().to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    host == "localhost" || host.ends_with(".localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(version: Version, uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let request = request.body(()).unwrap();
        assert!(Hosts::All.check(&request).is_ok());
        Hosts::Local.check(&request).is_err()
    }

    #[test]
    fn names_that_others_can_redirect_are_refused() {
        for host in
            ["localhost", "LocalHost:8080", "app.localhost", "127.0.0.1:8080", "[::1]", "[::1]:8080", "10.0.0.1"]
        {
            assert!(!is_refused(Version::HTTP_11, "/", &[host]), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "a b", ""]
        {
            assert!(is_refused(Version::HTTP_11, "/", &[host]), "{host}");
        }
        assert!(is_refused(Version::HTTP_11, "/", &["localhost", "evil.example"]));
        assert!(is_refused(Version::HTTP_11, "http://evil.example/", &["localhost"]));
    }

    #[test]
    fn requests_that_no_page_can_send_are_not_refused() {
        assert!(!is_refused(Version::HTTP_10, "/", &[]));
        assert!(!is_refused(Version::HTTP_2, "http://grpc_servers/", &[]));
    }
}
