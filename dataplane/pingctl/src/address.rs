//! The address of a server.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Error, Uri};
use url::Host;

/// What an address looks like, for errors.
const FORMS: &str = "write http://host:port, https://host:port or host:port";
/// Port of the API when the address has neither a port nor a scheme.
const DEFAULT_PORT: u16 = 8080;

/// The address of a server: `http://host:port` or `https://host:port`. With a scheme and no port, it is the scheme's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Address(Uri);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, default_port, bare) = match text.split_once("://") {
            Some((scheme @ "http", bare)) => (scheme, 80, bare),
            Some((scheme @ "https", bare)) => (scheme, 443, bare),
            Some((scheme, _)) => return Err(format!("\"{scheme}\" is not a scheme of this API; {FORMS}")),
            None => ("http", DEFAULT_PORT, text),
        };
        let bare = bare.trim_end_matches('/');
        if let Some(part) = bare.chars().find(|part| "/?#@\\".contains(*part)) {
            return Err(format!("\"{part}\" is not allowed: an address has no user, path or query; {FORMS}"));
        }
        let (host, port) = split(bare);
        let port = port.map_or(Ok(default_port), parse_port)?;
        let host = Host::parse(host).map_err(|error| format!("\"{host}\" is not a host: {error}; {FORMS}"))?;
        format!("{scheme}://{host}:{port}").parse().map(Self).map_err(|error| format!("{error}; {FORMS}"))
    }
}

/// The host, and the text after its colon. An IPv6 address has colons of its own, and is in brackets.
fn split(bare: &str) -> (&str, Option<&str>) {
    match bare.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (bare, None),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("\"{text}\" is not a port; write a number from 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl Address {
    /// Whether the address is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The host; an IPv6 address is in brackets.
    pub(crate) fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(DEFAULT_PORT)
    }

    /// Another port of the same host.
    pub(crate) fn with_port(&self, port: u16) -> Self {
        let (scheme, host) = (self.0.scheme_str().unwrap_or("http"), self.host());
        format!("{scheme}://{host}:{port}").parse().map_or_else(|_| self.clone(), Self)
    }

    /// Whether the connection is encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// A channel that connects on the first call and reconnects after a failure; with `tls` if the address is https://.
    ///
    /// # Errors
    /// When the certificates or the key cannot be used.
    pub(crate) fn connect(&self, timeout: Duration, tls: Option<ClientTlsConfig>) -> Result<Channel, Error> {
        let endpoint = Endpoint::from(self.0.clone()).connect_timeout(timeout).tcp_nodelay(true);
        let endpoint = match tls {
            Some(tls) => endpoint.tls_config(tls)?,
            None => endpoint,
        };
        Ok(endpoint.connect_lazy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_neither_scheme_nor_port() {
        let parse = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(parse("http://localhost:8080/").unwrap(), "http://localhost:8080");
        assert_eq!(parse("10.0.0.1:9").unwrap(), "http://10.0.0.1:9");
        assert_eq!(parse("ping.svc").unwrap(), "http://ping.svc:8080");
        assert_eq!(parse("[::1]:9").unwrap(), "http://[::1]:9");
        assert_eq!(parse("https://ping.svc").unwrap(), "https://ping.svc:443");
        assert_eq!(parse("http://ping.svc").unwrap(), "http://ping.svc:80");
        let https = "https://ping.svc:9".parse::<Address>().unwrap();
        assert_eq!((https.is_https(), https.with_port(8).to_string().as_str()), (true, "https://ping.svc:8"));
        assert_eq!("[::1]:9".parse::<Address>().unwrap().with_port(8).to_string(), "http://[::1]:8");
        assert!(parse("ftp://x").unwrap_err().contains("\"ftp\" is not a scheme"));
    }

    #[test]
    fn a_wrong_port_is_not_replaced_by_another() {
        for port in ["186000", "0", "-1", "", "http"] {
            let message = format!("ping.svc:{port}").parse::<Address>().unwrap_err();
            assert!(
                message.contains(&format!("\"{port}\" is not a port; write a number from 1 to 65535")),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_not_a_host_is_named() {
        for (text, part) in [
            ("", "\"\" is not a host"),
            ("http://:8080", "\"\" is not a host"),
            ("a b:1", "\"a b\" is not a host"),
            ("10.0.0.256", "\"10.0.0.256\" is not a host"),
            ("::1:8080", "\"::1\" is not a host"),
            ("[::1:8080", "is not a host"),
            ("ping.svc:1:2", "\"ping.svc:1\" is not a host"),
            ("x/y", "\"/\" is not allowed"),
            ("u@x", "\"@\" is not allowed"),
            ("https://x?y", "\"?\" is not allowed"),
        ] {
            let message = text.parse::<Address>().unwrap_err();
            assert!(message.contains(part) && message.ends_with(FORMS), "{text}: {message}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(loopback("localhost:1") && loopback("127.0.0.2:1") && loopback("[::1]:1"));
        assert!(!loopback("192.168.1.1:1") && !loopback("localhost.example.com:1"));
    }
}
