//! Free ports on the loopback address.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use anyhow::bail;

/// Below the ports that Linux hands to outgoing connections (32768 and up) and Kubernetes to services (30000 and up):
/// while a part is down between a kill and its restart, nobody else gets its port by accident. In particular a
/// client that keeps trying to reconnect cannot end up connected to itself.
const RANGE: Range<u16> = 15_000..30_000;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of 127.0.0.1 that nobody listens on, never given twice by one process.
pub fn free_port() -> anyhow::Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    // Each process begins elsewhere, so that two of them seldom try the same port.
    let random = RandomState::new().hash_one(std::process::id());
    let width = u64::from(RANGE.end - RANGE.start);
    for step in 0..width {
        let port = RANGE.start + u16::try_from(random.wrapping_add(step) % width)?;
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", RANGE.start, RANGE.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: HashSet<u16> = (0..200).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 200);
    }
}
