//! The way to the server: its address, calls with a deadline, and trying again.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use ping_proto::{ping_service_client::PingServiceClient, source_service_client::SourceServiceClient};
use rand::Rng;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    args::Global,
    exit::Exit,
    failure::{self, Failure},
};

/// The port of a server when none is named.
const PORT: u16 = 8080;
/// First pause before a call is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(Uri);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("pingctl speaks plain HTTP/2 only; use http://, through a local proxy if need be".to_owned());
        }
        let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let wrong = || "write http://host:port or host:port".to_owned();
        let uri: Uri = format!("http://{bare}").parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        if bare.contains(['/', '?', '@']) {
            return Err(wrong());
        }
        let port = uri.port_u16().unwrap_or(PORT);
        format!("http://{host}:{port}").parse().map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl Address {
    /// Whether it is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// A connection that is made with the first call, and again after it broke.
    pub(crate) fn connect(&self, timeout: Duration) -> Channel {
        Endpoint::from(self.0.clone()).connect_timeout(timeout).tcp_nodelay(true).connect_lazy()
    }
}

/// A server that can be asked.
pub(crate) struct Server {
    client: PingServiceClient<Channel>,
    sources: SourceServiceClient<Channel>,
    address: Address,
    timeout: Duration,
    retries: u32,
}

impl Server {
    /// The server of the command line.
    pub(crate) fn new(global: &Global, timeout: Duration) -> Self {
        let address = global.addr.clone();
        let channel = address.connect(timeout);
        let (client, sources) = (PingServiceClient::new(channel.clone()), SourceServiceClient::new(channel));
        Self { client, sources, address, timeout, retries: global.retries }
    }

    /// Calls until there is an answer or it makes no sense to go on; also says how often it tried again.
    pub(crate) async fn ask<Q: Clone, A>(
        &self,
        question: &Q,
        again: fn(&Status) -> bool,
        call: impl AsyncFn(PingServiceClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<(A, u32), Failure> {
        self.ask_of(&self.client, question, again, call).await
    }

    /// The same of the sources.
    pub(crate) async fn ask_sources<Q: Clone, A>(
        &self,
        question: &Q,
        again: fn(&Status) -> bool,
        call: impl AsyncFn(SourceServiceClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<(A, u32), Failure> {
        self.ask_of(&self.sources, question, again, call).await
    }

    async fn ask_of<C: Clone, Q: Clone, A>(
        &self,
        client: &C,
        question: &Q,
        again: fn(&Status) -> bool,
        call: impl AsyncFn(C, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<(A, u32), Failure> {
        let mut tried = 0;
        loop {
            let mut request = Request::new(question.clone());
            request.set_timeout(self.timeout);
            match call(client.clone(), request).await {
                Ok(answer) => return Ok((answer.into_inner(), tried)),
                Err(status) if tried < self.retries && again(&status) => {
                    tokio::time::sleep(pause(tried, &status)).await;
                    tried += 1;
                }
                Err(status) => return Err(Failure::of(&status, &self.address.to_string())),
            }
        }
    }
}

/// Whether the server may not have done it: for calls that may be repeated at will, such as a ping with an id.
pub(crate) fn unsettled(status: &Status) -> bool {
    failure::exit(status) == Exit::Unavailable
}

/// The same without calls that took too long: a question that was too much once is too much again.
pub(crate) fn away(status: &Status) -> bool {
    unsettled(status) && failure::code(status) != "deadline_exceeded"
}

/// How long to wait before trying again for the `tried`th time: longer each time, never in step with others, and not before
/// the server asks for it.
pub(crate) fn pause(tried: u32, status: &Status) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tried)).min(LONGEST_PAUSE);
    let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
    let asked = status.metadata().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    pause.max(asked.map_or(Duration::ZERO, Duration::from_secs).min(LONGEST_PAUSE))
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
        assert!(["", "https://x", "a b", "x/y", "u@x"].iter().all(|text| parse(text).is_err()));
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(loopback("localhost:1") && loopback("127.0.0.2:1") && loopback("[::1]:1"));
        assert!(!loopback("192.168.1.1:1") && !loopback("localhost.example.com:1"));
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let status = Status::unavailable("");
        assert!(pause(0, &status) <= FIRST_PAUSE);
        assert!(pause(90, &status) >= LONGEST_PAUSE / 2 && pause(90, &status) <= LONGEST_PAUSE);
    }
}
