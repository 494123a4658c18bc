//! The store of record in one file, for one process: embedded mode. Writes take turns on one connection, each in a transaction
//! that is on disk when it ends; reads have connections of their own and see what was committed before they began.

mod commit;
mod events;
mod outbox;
mod sources;
mod totals;
mod views;

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Encode, QueryBuilder, Sqlite, SqliteConnection, SqlitePool, Transaction, Type,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;

use ping_core::Millis;
use ping_ports::{Clock, StoreError};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Reads at once.
const READERS: u32 = 4;
/// Pages of the writer's cache, as SQLite takes it: 64 MiB instead of 2, for ids in no order touch a page each.
const CACHE: &str = "-65536";
/// Pages in the write-ahead log before they go to the file: 32 MiB.
const CHECKPOINT: &str = "8192";

/// Implements every store port.
pub struct SqliteStore {
    writer: Mutex<SqliteConnection>,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    /// Ours while this file is open.
    _lock: File,
}

/// Why a file cannot be the store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another process; stop that one, or choose another file")]
    InUse(PathBuf),
    /// The file beside it, by which processes keep out of each other's way, cannot be made.
    #[error("{0} cannot be locked")]
    Lock(PathBuf, #[source] io::Error),
    /// SQLite cannot read or write it.
    #[error("{0} cannot be opened")]
    Open(PathBuf, #[source] sqlx::Error),
    /// It is of another program, or of a version that does not fit.
    #[error("{0} cannot be brought up to date")]
    Migrate(PathBuf, #[source] MigrateError),
}

impl SqliteStore {
    /// Opens the store at `path`, made if it is missing, and closes the writers that a process before us left open: it is
    /// gone, for the file is ours.
    ///
    /// # Errors
    /// When another process has the file, or it cannot be read and written as a store.
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let lock = lock(path)?;
        let failed = |error| OpenError::Open(path.to_owned(), error);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writing = options.clone().pragma("cache_size", CACHE).pragma("wal_autocheckpoint", CHECKPOINT);
        let mut writer = writing.connect().await.map_err(failed)?;
        let mut migrator = Migrator { migrations: MIGRATOR.migrations.clone(), ..Migrator::DEFAULT };
        let migrated = migrator.set_ignore_missing(true).run(&mut writer).await;
        migrated.map_err(|error| OpenError::Migrate(path.to_owned(), error))?;
        let abandon = "UPDATE writers SET open = 0, closed_ms = $1 WHERE open";
        sqlx::query(abandon).bind(clock.now()).execute(&mut writer).await.map_err(failed)?;
        let readers = SqlitePoolOptions::new().max_connections(READERS).test_before_acquire(false);
        let readers = readers.connect_lazy_with(options.create_if_missing(false).pragma("query_only", "on"));
        Ok(Self { writer: Mutex::new(writer), readers, clock, _lock: lock })
    }

    /// When it was before looking, and one consistent look.
    async fn look(&self) -> Result<(Millis, Transaction<'static, Sqlite>), StoreError> {
        let now = self.clock.now();
        Ok((now, self.readers.begin().await.map_err(failed)?))
    }
}

/// The turn to write; dropped before its commit, nothing is done.
async fn turn(writer: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
    writer.begin_with("BEGIN IMMEDIATE").await
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::create(&name).map_err(|error| OpenError::Lock(path.to_owned(), error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::Lock(path.to_owned(), error)),
    }
}

/// The query `select` of the rows whose key, named last in it, is one of `keys`; for fewer than SQLite's limit of variables.
fn among<'q, K>(select: &str, keys: impl IntoIterator<Item = K>) -> QueryBuilder<Sqlite>
where
    K: Encode<'q, Sqlite> + Type<Sqlite>,
{
    let mut query = QueryBuilder::new(select);
    let mut list = query.push(" IN (").separated(", ");
    for key in keys {
        list.push_bind(key);
    }
    query.push(")");
    query
}

fn failed(error: sqlx::Error) -> StoreError {
    StoreError(error.into())
}

fn millis(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
