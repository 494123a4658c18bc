//! The store of record in one SQLite file, for one process: the embedded mode. Writes share one connection, one transaction at a
//! time, and are on disk when they return. Reads have connections of their own and see what was committed before they began.

mod commit;
mod event_retention;
mod events;
mod incarnations;
mod outbox;
mod quotas;
mod segments;
mod sources;
mod storage;
#[cfg(test)]
mod tests;
mod totals;
mod view_audit;
mod views;

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{
    ConnectOptions, Connection, Encode, QueryBuilder, Sqlite, SqliteConnection, SqlitePool, Transaction, Type,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

use ping_core::Millis;
use ping_ports::{Cause, Clock, DiskFull, StoreError};
use ping_sql::{SqlError, migrator};

const MIGRATIONS: [(i64, &str, &str); 9] = [
    (1, "schema", include_str!("../migrations/0001_schema.sql")),
    (2, "sources", include_str!("../migrations/0002_sources.sql")),
    (3, "quotas", include_str!("../migrations/0003_quotas.sql")),
    (4, "segments", include_str!("../migrations/0004_segments.sql")),
    (7, "pings", include_str!("../migrations/0007_pings.sql")),
    (8, "incarnations", include_str!("../migrations/0008_incarnations.sql")),
    (9, "view audit", include_str!("../migrations/0009_view_audit.sql")),
    (10, "event retention", include_str!("../migrations/0010_event_retention.sql")),
    (11, "incarnation changes", include_str!("../migrations/0011_incarnation_changes.sql")),
];

/// Connections for reading.
const MAX_READERS: u32 = 4;
/// Size of the writer's page cache, as a negative number of KiB: 64 MiB instead of 2, because random ids touch one page each.
const CACHE_SIZE: &str = "-65536";
/// Pages in the write-ahead log before it is copied to the file: 32 MiB.
const CHECKPOINT_PAGES: &str = "8192";

/// SQLITE_FULL.
const DISK_FULL: &str = "13";

/// Implements every store port.
pub struct SqliteStore {
    writer: Mutex<SqliteConnection>,
    /// Opens the writer again.
    writing: SqliteConnectOptions,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    /// Held while this store is open, so that no other process opens the file.
    _lock: File,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has opened it.
    #[error("{0} is in use by another process; stop that process or choose another file")]
    InUse(PathBuf),
    /// The lock file beside it cannot be created or locked.
    #[error("cannot lock {0}")]
    Lock(PathBuf, #[source] io::Error),
    /// SQLite cannot read or write it.
    #[error("cannot open {0}")]
    Open(PathBuf, #[source] SqlError),
    /// It belongs to another program, or to an incompatible version of this one.
    // No source: sqlx repeats it in its own text.
    #[error("cannot migrate the schema of {0}: {1}")]
    Migrate(PathBuf, MigrateError),
}

impl SqliteStore {
    /// Opens the store at `path`, creating it if necessary, and closes the writers that an earlier process left open. That process
    /// has ended, because this one holds the lock.
    ///
    /// # Errors
    /// When another process has opened the file, or it is not a readable and writable store.
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let lock = lock(path)?;
        let failed = |error| OpenError::Open(path.to_owned(), SqlError(error));
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writing = options.clone().pragma("cache_size", CACHE_SIZE).pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let mut writer = writing.connect().await.map_err(failed)?;
        let migrated = migrator(&MIGRATIONS).run(&mut writer).await;
        migrated.map_err(|error| OpenError::Migrate(path.to_owned(), error))?;
        let close = "UPDATE writers SET open = 0, closed_ms = $1 WHERE open";
        sqlx::query(close).bind(clock.now()).execute(&mut writer).await.map_err(failed)?;
        let readers = SqlitePoolOptions::new().max_connections(MAX_READERS).test_before_acquire(false);
        let readers = readers.connect_lazy_with(options.create_if_missing(false).pragma("query_only", "on"));
        Ok(Self { writer: Mutex::new(writer), writing, readers, clock, _lock: lock })
    }

    /// The connection for writing, which one caller has at a time.
    ///
    /// SQLite rolls back by itself when the disk is full or fails. sqlx then believes that a transaction is still open and refuses to
    /// begin another, so the connection is replaced.
    async fn writer(&self) -> Result<MutexGuard<'_, SqliteConnection>, StoreError> {
        let mut writer = self.writer.lock().await;
        // A transaction that was dropped has been rolled back when the ping is answered.
        if writer.ping().await.is_err() || writer.is_in_transaction() {
            *writer = self.writing.connect().await.map_err(failed)?;
        }
        Ok(writer)
    }

    /// The time before the transaction, and a transaction that reads one snapshot.
    async fn begin_read(&self) -> Result<(Millis, Transaction<'static, Sqlite>), StoreError> {
        let now = self.clock.now();
        Ok((now, self.readers.begin().await.map_err(failed)?))
    }
}

/// Begins a transaction that writes. Dropped before its commit, it is rolled back.
async fn begin_write(writer: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
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

/// `select` with ` IN (keys)` appended. `keys` must stay below SQLite's limit of 32,766 variables.
fn where_in<'q, K>(select: &str, keys: impl IntoIterator<Item = K>) -> QueryBuilder<Sqlite>
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
    StoreError(cause(error))
}

/// The error as the store's callers see it.
fn cause(error: sqlx::Error) -> Cause {
    let is_disk_full = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == DISK_FULL);
    let cause = SqlError(error).into();
    if is_disk_full { DiskFull(cause).into() } else { cause }
}
