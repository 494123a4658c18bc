//! A network link between two components that can be slow, lose packets, or be cut in one direction or both.
//!
//! A link is a TCP hop in user space, because netfilter rules and network namespaces need root. Both ends see what TCP makes of dropped
//! packets: nothing arrives, no connection is closed, and what was sent meanwhile arrives when the link is back. One difference: a new
//! connection over a cut link is accepted, and then silent.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use rand::Rng as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// How long Linux waits at least before it sends a lost packet again.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Chunks in flight per connection and direction.
const IN_FLIGHT: usize = 64;

/// What a link does to the bytes that pass it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkState {
    /// Nothing arrives from the caller.
    pub requests_cut: bool,
    /// Nothing arrives at the caller.
    pub responses_cut: bool,
    /// Additional time in each direction.
    pub delay: Duration,
    /// How many of a hundred chunks are lost: they, and all that follows on the connection, arrive after a retransmission.
    pub loss_percent: u8,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Requests,
    Responses,
}

impl LinkState {
    fn is_cut(self, direction: Direction) -> bool {
        match direction {
            Direction::Requests => self.requests_cut,
            Direction::Responses => self.responses_cut,
        }
    }
}

/// A link to a port of this machine. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    target: Arc<AtomicU16>,
    state: watch::Sender<LinkState>,
    acceptor: JoinHandle<()>,
}

impl Link {
    /// Accepts connections on `port` and connects each to `target`.
    pub async fn start(port: u16, target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("the port {port} of a link is taken"))?;
        let (state, states) = watch::channel(LinkState::default());
        let target = Arc::new(AtomicU16::new(target));
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&target), states));
        Ok(Self { port, target, state, acceptor })
    }

    /// The port where it accepts connections.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connects new connections to `target`.
    pub fn redirect(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
    }

    /// Changes what it does from now on, to open connections too.
    pub fn set(&self, state: LinkState) {
        self.state.send_replace(state);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, target: Arc<AtomicU16>, states: watch::Receiver<LinkState>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((caller, _)) = listener.accept() => {
                connections.spawn(connect(caller, target.load(Ordering::Relaxed), states.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Forwards bytes until one end closes the connection or breaks it. Both then see that it has ended.
async fn connect(caller: TcpStream, target: u16, states: watch::Receiver<LinkState>) -> io::Result<()> {
    let target = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    for stream in [&caller, &target] {
        stream.set_nodelay(true)?;
    }
    let (from_caller, to_caller) = caller.into_split();
    let (from_target, to_target) = target.into_split();
    tokio::try_join!(
        forward(from_caller, to_target, Direction::Requests, states.clone()),
        forward(from_target, to_caller, Direction::Responses, states)
    )?;
    Ok(())
}

/// Forwards the bytes of one direction.
async fn forward(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    direction: Direction,
    states: watch::Receiver<LinkState>,
) -> io::Result<()> {
    let (queue, chunks) = mpsc::channel(IN_FLIGHT);
    tokio::try_join!(receive(from, queue, states.clone()), deliver(to, chunks, direction, states))?;
    Ok(())
}

/// Bytes, and when they arrive.
type Chunk = (Instant, Vec<u8>);

async fn receive(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<Chunk>,
    states: watch::Receiver<LinkState>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let state = *states.borrow();
        let is_lost = rand::rng().random_range(0..100) < state.loss_percent;
        let delay = state.delay + if is_lost { RETRANSMISSION } else { Duration::ZERO };
        if queue.send((Instant::now() + delay, buffer[..length].to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn deliver(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    direction: Direction,
    mut states: watch::Receiver<LinkState>,
) -> io::Result<()> {
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        connected(&mut states, direction).await?;
        to.write_all(&chunk).await?;
    }
    connected(&mut states, direction).await?;
    to.shutdown().await
}

/// Waits until the link is not cut in `direction`.
async fn connected(states: &mut watch::Receiver<LinkState>, direction: Direction) -> io::Result<()> {
    let state = states.wait_for(|state| !state.is_cut(direction)).await;
    state.map_err(|_| io::ErrorKind::ConnectionAborted)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::ports::free_port;

    const CUT: Duration = Duration::from_millis(300);

    /// A link to a server that answers each byte with the same byte, and a connection over it.
    async fn echo() -> (Link, TcpStream) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = server.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.unwrap();
                });
            }
        });
        let link = Link::start(free_port().unwrap(), target).await.unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).await.unwrap();
        (link, stream)
    }

    /// Sends a byte and waits for it; how long it took.
    async fn round_trip(stream: &mut TcpStream) -> Duration {
        let started = Instant::now();
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        started.elapsed()
    }

    #[tokio::test]
    async fn a_cut_link_delivers_later_and_keeps_its_connections() {
        for cut in [
            LinkState { requests_cut: true, ..LinkState::default() },
            LinkState { responses_cut: true, ..LinkState::default() },
        ] {
            let (link, mut stream) = echo().await;
            round_trip(&mut stream).await;
            link.set(cut);
            stream.write_all(b"x").await.unwrap();
            let mut answer = [0];
            assert!(timeout(CUT, stream.read_exact(&mut answer)).await.is_err(), "{cut:?}");
            link.set(LinkState::default());
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"x");
        }
    }

    #[tokio::test]
    async fn a_slow_link_adds_its_delay_in_each_direction() {
        let (link, mut stream) = echo().await;
        link.set(LinkState { delay: Duration::from_millis(50), ..LinkState::default() });
        assert!(round_trip(&mut stream).await >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_lost_chunk_arrives_after_a_retransmission() {
        let (link, mut stream) = echo().await;
        link.set(LinkState { loss_percent: 100, ..LinkState::default() });
        assert!(round_trip(&mut stream).await >= 2 * RETRANSMISSION);
    }

    #[tokio::test]
    async fn a_closed_connection_is_closed_at_the_other_end() {
        let (_link, mut stream) = echo().await;
        round_trip(&mut stream).await;
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
}
