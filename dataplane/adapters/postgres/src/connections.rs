//! A pool of connections that stay open between calls.
//!
//! Not sqlx's pool: it pings the server after every use, which adds a round trip to each commit (two instead of one), and it hands
//! out connections in turn, although a lane is served best by the same warm backend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{Connection, PgConnection};
use tokio::{
    select,
    sync::{Notify, Semaphore, SemaphorePermit, oneshot},
    time::{Instant, timeout},
};

use super::{
    connector::Connector,
    failure::{ConnectError, ConnectionHealth, Failure, Timeout},
};

/// How long a call waits for a connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an attempt to connect may take. It takes six round trips with TLS and a password, and continues when its caller stops waiting, so
/// that a later caller has a connection although the network is slow.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is pinged before it is used.
const MAX_IDLE_WITHOUT_PING: Duration = Duration::from_secs(1);
/// How long a connection may take to answer that ping.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a connection is used. A certificate or password that was replaced is no longer in use after this time.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Commits rely on reading what others have just committed. The server must not cancel a statement that waits for a replica:
/// the client would take it for undone, although it is committed on one machine.
const SESSION: &str = "SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0;";

/// Counts how often connections turned out to be broken. Idle connections from an earlier epoch are discarded.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolEpoch(Arc<AtomicU64>);

struct Idle {
    connection: PgConnection,
    opened: Instant,
    since: Instant,
    epoch: u64,
}

pub(super) struct ConnectionPool {
    connections: Arc<Connections>,
    permits: Semaphore,
}

/// What attempts to connect share with the pool.
struct Connections {
    connector: Connector,
    session: String,
    idle: Mutex<Vec<Idle>>,
    epoch: PoolEpoch,
    /// For an attempt that continues without its caller: one at a time.
    unattended: Semaphore,
    /// Such an attempt has succeeded.
    opened: Notify,
}

/// A connection in use. It is closed if it is dropped before its call is finished: an answer may still be on its way.
pub(super) struct PooledConnection<'a> {
    connection: PgConnection,
    opened: Instant,
    pool: &'a Connections,
    _permit: SemaphorePermit<'a>,
}

impl ConnectionPool {
    /// At most `max_connections` at once, and one more in a slow network; each runs `settings` when it is opened.
    pub(super) fn new(connector: Connector, max_connections: usize, settings: &str, epoch: PoolEpoch) -> Self {
        let connections = Connections {
            connector,
            session: format!("{SESSION} {settings};"),
            idle: Mutex::default(),
            epoch,
            unattended: Semaphore::new(1),
            opened: Notify::new(),
        };
        Self { connections: Arc::new(connections), permits: Semaphore::new(max_connections.max(1)) }
    }

    /// The connection that was used last, or a new one.
    pub(super) async fn acquire(&self) -> Result<PooledConnection<'_>, Failure> {
        let acquired = async {
            let permit = self.permits.acquire().await.map_err(|closed| Failure::NotSent(closed.into()))?;
            let (connection, opened) = match self.connections.pop_idle().await {
                Some(idle) => idle,
                None => self.open().await.map_err(|error| Failure::NotSent(error.into()))?,
            };
            Ok(PooledConnection { connection, opened, pool: &self.connections, _permit: permit })
        };
        timeout(ACQUIRE_TIMEOUT, acquired).await.unwrap_or_else(|_| Err(Failure::NotSent(self.timed_out().into())))
    }

    /// A connection that does not count towards the limit and is closed after use.
    pub(super) async fn dedicated(&self) -> Result<PgConnection, Failure> {
        self.connections.connect().await.map_err(|error| Failure::NotSent(error.into()))
    }

    pub(super) fn timed_out(&self) -> ConnectError {
        self.connections.connector.timed_out(ACQUIRE_TIMEOUT)
    }

    /// A new connection, or one that another caller stopped waiting for; and when it was opened.
    async fn open(&self) -> Result<(PgConnection, Instant), ConnectError> {
        let (caller, mut answer) = oneshot::channel();
        tokio::spawn(Arc::clone(&self.connections).attempt(caller));
        loop {
            select! {
                biased;
                connected = &mut answer => {
                    return connected.unwrap_or_else(|_| Err(self.timed_out())).map(|connection| (connection, Instant::now()));
                }
                () = self.connections.opened.notified() => {
                    if let Some(idle) = self.connections.pop_idle().await {
                        return Ok(idle);
                    }
                }
            }
        }
    }
}

impl Connections {
    /// Opens a connection for `caller`. If it stops waiting, the connection is for others.
    async fn attempt(self: Arc<Self>, mut caller: oneshot::Sender<Result<PgConnection, ConnectError>>) {
        let (epoch, connecting) = (self.epoch.0.load(Ordering::Relaxed), self.connect());
        tokio::pin!(connecting);
        let connected = select! {
            biased;
            connected = &mut connecting => caller.send(connected).err(),
            () = caller.closed() => match self.unattended.try_acquire() {
                Ok(_only_one) => Some(connecting.await),
                Err(_) => None,
            },
        };
        if let Some(Ok(connection)) = connected {
            let now = Instant::now();
            self.idle.lock().push(Idle { connection, opened: now, since: now, epoch });
            self.opened.notify_one();
        }
    }

    async fn connect(&self) -> Result<PgConnection, ConnectError> {
        let connected = timeout(CONNECT_TIMEOUT, self.connector.connect(&self.session)).await;
        connected.unwrap_or_else(|_| Err(self.connector.timed_out(CONNECT_TIMEOUT)))
    }

    /// An idle connection that works, and when it was opened.
    async fn pop_idle(&self) -> Option<(PgConnection, Instant)> {
        loop {
            let Idle { mut connection, opened, since, epoch } = self.idle.lock().pop()?;
            if epoch != self.epoch.0.load(Ordering::Relaxed) || opened.elapsed() > MAX_LIFETIME {
                continue;
            }
            let fresh = since.elapsed() < MAX_IDLE_WITHOUT_PING;
            if fresh || matches!(timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(()))) {
                return Some((connection, opened));
            }
            self.advance_epoch();
        }
    }

    fn push_idle(&self, connection: PgConnection, opened: Instant) {
        let epoch = self.epoch.0.load(Ordering::Relaxed);
        self.idle.lock().push(Idle { connection, opened, since: Instant::now(), epoch });
    }

    fn advance_epoch(&self) {
        self.epoch.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl PooledConnection<'_> {
    /// The connection, for the statement of this call.
    pub(super) fn get_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Returns the connection to the pool.
    pub(super) fn release(self) {
        self.pool.push_idle(self.connection, self.opened);
    }

    /// Ends the call: returns a usable connection to the pool, closes any other, and classifies the error if there is one.
    pub(super) fn finish<T>(self, result: TimedResult<T>) -> Result<T, Failure> {
        let (failure, health) = match result {
            Ok(Ok(value)) => {
                self.release();
                return Ok(value);
            }
            Ok(Err(error)) => Failure::classify(error),
            Err(_) => (Failure::Unknown(Timeout.into()), ConnectionHealth::AllBroken),
        };
        match health {
            ConnectionHealth::Usable => self.release(),
            ConnectionHealth::Broken => {}
            ConnectionHealth::AllBroken => self.pool.advance_epoch(),
        }
        Err(failure)
    }
}

/// The server's answer, unless the call timed out.
pub(super) type TimedResult<T> = Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>;
