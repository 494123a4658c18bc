//! From a name to a connection.

use std::{
    io::{Error, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::{address::Address, exit::Exit, failure::Failure};

use super::report::Finding;

/// The addresses of the server's name.
pub(super) async fn resolve(address: &Address, limit: Duration) -> Result<Finding<Vec<SocketAddr>>, Failure> {
    let host = address.host().trim_matches(['[', ']']);
    let found = timeout(limit, lookup_host((host, address.port()))).await;
    let found = found.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    match found.map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if !addresses.is_empty() => {
            let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Ok(Finding::ok(format!("{host} is {}", shown.join(", ")), addresses))
        }
        result => {
            let cause = result.err().map(|error| error.to_string());
            let fix = "check the spelling in --addr; names of Kubernetes services (NAME.NAMESPACE.svc) resolve inside the cluster only: \
                       outside, forward a port as `kubectl pingpipeline connect NAME` prints";
            Err(failure(format!("no address is known for {host}"), cause, fix))
        }
    }
}

/// A connection to the first address that accepts one.
pub(super) async fn connect(addresses: &[SocketAddr], limit: Duration) -> Result<Finding<TcpStream>, Failure> {
    let mut refusals = Vec::new();
    for address in addresses {
        let connected = timeout(limit, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
            Ok(socket) => {
                let unused: Vec<_> = refusals.iter().map(|(address, error)| format!("{address} ({error})")).collect();
                let warning = format!("not every address of the name accepts connections: {}", unused.join(", "));
                let warning = (!unused.is_empty()).then_some(warning);
                return Ok(Finding::ok(format!("connected to {address}"), socket).with_warning(warning));
            }
            Err(error) => refusals.push((address, error)),
        }
    }
    let shown: Vec<_> = refusals.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    let fix = remedy(refusals.iter().map(|(_, error)| error));
    Err(failure("nothing accepts a connection".to_owned(), Some(shown.join("; ")), fix))
}

fn remedy<'a>(mut errors: impl Iterator<Item = &'a Error>) -> &'static str {
    if errors.any(|error| error.kind() == ErrorKind::ConnectionRefused) {
        return "start a server there (`pingd dev`), or correct the port in --addr: the API is usually on 8080, the admin port on 8081";
    }
    "check routes, firewalls and network policies between this machine and the server, and that the server runs"
}

fn failure(what: String, cause: Option<String>, fix: &str) -> Failure {
    Failure { exit: Exit::Unavailable, code: "unavailable", what, cause, fix: Some(fix.to_owned()) }
}
