//! Connections that stay open between calls. Not sqlx's pool: that asks the server for a sign of life after every use, a round
//! trip per commit, and hands connections out in turn, where one lane is best served by one warm backend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::failure::{Failure, Health, NoAnswer};

/// How long to wait for a connection.
const WAIT: Duration = Duration::from_secs(2);
/// A connection idle for longer is asked for a sign of life before it is used …
const FRESH: Duration = Duration::from_secs(1);
/// … and has this long to give it.
const SIGN: Duration = Duration::from_millis(500);

/// Commits rely on reading what others have just committed; a statement that the server gives up while it waits for a replica
/// would look committed and be on one machine only.
const SESSION: &str = "SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0";

/// How often connections turned out to be broken. An idle one that answered before the last time is not trusted any more.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolEpoch(Arc<AtomicU64>);

struct Idle {
    connection: PgConnection,
    since: Instant,
    epoch: u64,
}

pub(super) struct Connections {
    options: PgConnectOptions,
    session: String,
    idle: Mutex<Vec<Idle>>,
    room: Semaphore,
    epoch: PoolEpoch,
}

/// A connection in use. Dropped before its call is finished, it is closed: nobody knows what it would answer next.
pub(super) struct PooledConnection<'a> {
    connection: PgConnection,
    home: &'a Connections,
    _room: SemaphorePermit<'a>,
}

impl Connections {
    /// At most `most` connections at once, each with some settings more.
    pub(super) fn new(options: PgConnectOptions, most: usize, settings: &str, epoch: PoolEpoch) -> Self {
        let session = [SESSION, settings].join("; ");
        Self { options, session, idle: Mutex::default(), room: Semaphore::new(most.max(1)), epoch }
    }

    /// The connection used last, or a new one.
    pub(super) async fn take(&self) -> Result<PooledConnection<'_>, Failure> {
        let held = async {
            let room = self.room.acquire().await.map_err(|closed| Failure::NotSent(closed.into()))?;
            let connection = match self.pop().await {
                Some(connection) => connection,
                None => self.connect().await.map_err(|error| Failure::NotSent(error.into()))?,
            };
            Ok(PooledConnection { connection, home: self, _room: room })
        };
        timeout(WAIT, held).await.unwrap_or_else(|_| Err(Failure::NotSent(NoAnswer.into())))
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(self.session.as_str())).execute(&mut connection).await?;
        Ok(connection)
    }

    async fn pop(&self) -> Option<PgConnection> {
        loop {
            let Idle { mut connection, since, epoch } = self.idle.lock().pop()?;
            if epoch != self.epoch.0.load(Ordering::Relaxed) {
                continue;
            }
            if since.elapsed() < FRESH || matches!(timeout(SIGN, connection.ping()).await, Ok(Ok(()))) {
                return Some(connection);
            }
            self.advance_epoch();
        }
    }

    fn push(&self, connection: PgConnection) {
        let epoch = self.epoch.0.load(Ordering::Relaxed);
        self.idle.lock().push(Idle { connection, since: Instant::now(), epoch });
    }

    fn advance_epoch(&self) {
        self.epoch.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl PooledConnection<'_> {
    /// The connection, for the statement of this call.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Puts it back unused.
    pub(super) fn keep(self) {
        self.home.push(self.connection);
    }

    /// Ends the call: keeps the connection if it is worth keeping, and says what is certain if there is no answer.
    pub(super) fn finish<T>(self, answer: Answer<T>) -> Result<T, Failure> {
        let (failure, health) = match answer {
            Ok(Ok(value)) => {
                self.keep();
                return Ok(value);
            }
            Ok(Err(error)) => Failure::judge(error),
            Err(_) => (Failure::Unknown(NoAnswer.into()), Health::AllBroken),
        };
        match health {
            Health::Sound => self.keep(),
            Health::Broken => {}
            Health::AllBroken => self.home.advance_epoch(),
        }
        Err(failure)
    }
}

/// What came back from the server, if it did in time.
pub(super) type Answer<T> = Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>;
