//! The limits.

use std::time::Duration;

/// Limits of a server. The defaults fit a container with 256 MiB.
#[derive(Clone, Debug)]
pub struct TransportSettings {
    /// Bytes that all requests together may hold: bodies, decoded messages, and events that wait to be committed.
    pub memory_bytes: usize,
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address that is not a trusted proxy.
    pub connections_per_address: usize,
    /// Concurrent HTTP/2 streams of one connection.
    pub streams_per_connection: u32,
    /// Time for the first request of a connection to arrive, and for its HTTP/2 preface.
    pub header_timeout: Duration,
    /// Time after which a connection without a request in progress is closed, and a stream that receives nothing ends.
    pub idle_timeout: Duration,
    /// Time for a peer to accept more of a response, or to answer an HTTP/2 ping.
    pub peer_timeout: Duration,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            memory_bytes: 64 * 1024 * 1024,
            connections: 1_000,
            connections_per_address: 500,
            streams_per_connection: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            peer_timeout: Duration::from_secs(20),
        }
    }
}
