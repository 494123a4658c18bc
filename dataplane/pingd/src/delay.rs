//! `pingd delay`: a hop in user space that forwards connections with additional latency, for `kubectl pingpipeline drill delay`. It needs no
//! privileges and nothing of the kernel, and does not see into TLS.

use std::{
    io,
    net::SocketAddr,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Connections per link. More wait until one ends.
const MAX_CONNECTIONS: usize = 100;
/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// Bytes in flight per connection and direction.
const IN_FLIGHT: usize = 1024 * 1024;
/// Pause after a connection could not be accepted, for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Settings of `pingd delay`.
#[derive(Debug, Args)]
pub(crate) struct DelayArgs {
    /// Where to accept connections, on this host only, and where to forward them: ADDRESS=HOST:PORT; can be repeated
    #[arg(long, required = true, value_name = "LINK")]
    link: Vec<Link>,
    /// Additional milliseconds in each direction
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    milliseconds: u64,
    /// Unix time in seconds from which on connections are forwarded without additional latency
    #[arg(long)]
    until: u64,
}

/// Where connections come in and go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    listen: SocketAddr,
    to: String,
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("expected ADDRESS=HOST:PORT, such as 127.0.53.1:6379=cache:6379, not {text:?}");
        let (listen, to) = text.split_once('=').ok_or_else(invalid)?;
        let listen: SocketAddr = listen.parse().map_err(|_| invalid())?;
        let is_target = to.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_target {
            return Err(invalid());
        }
        if !listen.ip().is_loopback() {
            return Err(format!(
                "{} is not a loopback address: others could connect to {to} through this",
                listen.ip()
            ));
        }
        Ok(Self { listen, to: to.to_owned() })
    }
}

/// The additional latency, and when it ends.
#[derive(Clone, Copy, Debug)]
struct Latency {
    each_way: Duration,
    until: Instant,
}

impl Latency {
    /// The time at which what arrives now is forwarded.
    fn due(self) -> Instant {
        let now = Instant::now();
        if now < self.until { now + self.each_way } else { now }
    }
}

/// Forwards until `shutdown`.
pub(crate) async fn run(args: DelayArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(args.until)).context("--until is out of range")?;
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    let until = Instant::now().checked_add(left).context("--until is out of range")?;
    let latency = Latency { each_way: Duration::from_millis(args.milliseconds), until };
    let mut links = JoinSet::new();
    for Link { listen, to } in args.link {
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}; is it in use?"))?;
        links.spawn(accept(listener, to, latency));
    }
    shutdown.cancelled().await;
    Ok(())
}

async fn accept(listener: TcpListener, to: String, latency: Latency) {
    let to: Arc<str> = to.into();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut is_first = true;
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let Ok((caller, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if std::mem::take(&mut is_first) {
            // The drill looks for this line.
            tracing::info!(%to, "delays connections");
        }
        let to = Arc::clone(&to);
        connections.spawn(async move {
            // Ends of connections are no errors here: both ends see them.
            if let Err(error) = connect(caller, &to, latency).await {
                tracing::debug!(%to, %error, "a connection broke");
            }
            drop(permit);
        });
    }
}

/// Forwards bytes until one end closes the connection or breaks it. Both then see that it has ended.
async fn connect(caller: TcpStream, to: &str, latency: Latency) -> io::Result<()> {
    let target = TcpStream::connect(to).await?;
    for stream in [&caller, &target] {
        stream.set_nodelay(true)?;
    }
    let (from_caller, to_caller) = caller.into_split();
    let (from_target, to_target) = target.into_split();
    tokio::try_join!(forward(from_caller, to_target, latency), forward(from_target, to_caller, latency))?;
    Ok(())
}

/// Bytes, when they are forwarded, and the room that they take.
type Chunk = (Instant, Vec<u8>, OwnedSemaphorePermit);

/// Forwards the bytes of one direction.
async fn forward(from: OwnedReadHalf, to: OwnedWriteHalf, latency: Latency) -> io::Result<()> {
    let (queue, chunks) = mpsc::unbounded_channel();
    tokio::try_join!(receive(from, queue, latency), deliver(to, chunks))?;
    Ok(())
}

/// The queue is bounded by the room for its bytes.
async fn receive(mut from: OwnedReadHalf, queue: mpsc::UnboundedSender<Chunk>, latency: Latency) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        let due = latency.due();
        let size = u32::try_from(length).map_err(io::Error::other)?;
        let permit = Arc::clone(&room).acquire_many_owned(size).await.map_err(io::Error::other)?;
        if length == 0 || queue.send((due, buffer[..length].to_vec(), permit)).is_err() {
            return Ok(());
        }
    }
}

async fn deliver(mut to: OwnedWriteHalf, mut chunks: mpsc::UnboundedReceiver<Chunk>) -> io::Result<()> {
    while let Some((due, chunk, _room)) = chunks.recv().await {
        sleep_until(due).await;
        to.write_all(&chunk).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const EACH_WAY: Duration = Duration::from_millis(60);

    /// A connection over a hop to a server that answers with the same bytes.
    async fn echo(until: Instant) -> TcpStream {
        let local = (Ipv4Addr::LOCALHOST, 0);
        let server = TcpListener::bind(local).await.unwrap();
        let target = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap();
            }
        });
        let hop = TcpListener::bind(local).await.unwrap();
        let address = hop.local_addr().unwrap();
        tokio::spawn(accept(hop, target.to_string(), Latency { each_way: EACH_WAY, until }));
        TcpStream::connect(address).await.unwrap()
    }

    async fn round_trip(stream: &mut TcpStream) -> Duration {
        let started = Instant::now();
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        started.elapsed()
    }

    #[tokio::test]
    async fn each_direction_takes_longer_until_the_delay_ends() {
        let ends = Instant::now() + 10 * EACH_WAY;
        let mut stream = echo(ends).await;
        assert!(round_trip(&mut stream).await >= 2 * EACH_WAY);
        sleep_until(ends).await;
        let fastest = async |stream: &mut TcpStream| {
            let mut fastest = Duration::MAX;
            for _ in 0..5 {
                fastest = fastest.min(round_trip(stream).await);
            }
            fastest
        };
        assert!(fastest(&mut stream).await < 2 * EACH_WAY);
    }

    #[tokio::test]
    async fn more_bytes_than_fit_arrive_in_order_and_the_end_too() {
        let (mut from, mut to) = echo(Instant::now() + Duration::from_secs(60)).await.into_split();
        let sent: Vec<u8> = (0..3 * IN_FLIGHT).map(|byte| (byte % 251) as u8).collect();
        let expected = sent.clone();
        tokio::spawn(async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        from.read_to_end(&mut received).await.unwrap();
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    }

    #[test]
    fn a_link_listens_on_this_host_only() {
        let link: Link = "127.0.53.1:6379=cache.demo:6379".parse().unwrap();
        assert_eq!(link, Link { listen: "127.0.53.1:6379".parse().unwrap(), to: "cache.demo:6379".into() });
        let error = "0.0.0.0:6379=cache:6379".parse::<Link>().unwrap_err();
        assert!(error.contains("not a loopback address"), "{error}");
        for text in ["", "127.0.0.1:1", "127.0.0.1=cache:6379", "127.0.0.1:1=cache", "127.0.0.1:1=:7"] {
            assert!(text.parse::<Link>().unwrap_err().contains("expected ADDRESS=HOST:PORT"), "{text}");
        }
    }
}
