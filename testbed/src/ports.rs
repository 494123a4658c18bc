//! Free ports on the loopback address.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use anyhow::bail;

/// Below the ports that Linux assigns to outgoing connections (32768 and up) and Kubernetes to Services (30000 and up), so that
/// no other process takes a part's port between its kill and its restart. In particular, a client that keeps reconnecting
/// cannot connect to itself.
const RANGE: Range<u16> = 15_000..30_000;

static ALLOCATED: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of 127.0.0.1 on which no process listens. A process never gets the same port twice.
pub fn free_port() -> anyhow::Result<u16> {
    let mut allocated = ALLOCATED.lock().unwrap_or_else(PoisonError::into_inner);
    let allocated = allocated.get_or_insert_default();
    // Processes start at different ports so that two of them rarely try the same one.
    let random = RandomState::new().hash_one(std::process::id());
    let width = u64::from(RANGE.end - RANGE.start);
    for step in 0..width {
        let port = RANGE.start + u16::try_from(random.wrapping_add(step) % width)?;
        if !allocated.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            allocated.insert(port);
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
