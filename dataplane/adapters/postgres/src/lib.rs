//! The store of record in Postgres 15 or later. Every call on the path of a request is one statement on a connection of its own,
//! so it has one snapshot, one round trip, and no transaction that a lost client could leave open.
//!
//! Statements and their parameters belong here; long ones are files in `src/sql`. Rules about events, leases and views do not:
//! they are in ping-core and ping-ports.

mod apply;
mod base;
mod commit;
mod connections;
mod connector;
mod conversion;
mod days;
mod dropping;
mod event_retention;
mod event_tables;
mod events;
mod failure;
mod import;
mod incarnations;
mod outbox;
mod partitions;
mod quotas;
mod reads;
mod row_export;
mod row_sums;
mod row_tables;
mod schema;
mod segments;
mod stats_rows;
mod storage;
mod tls;
mod totals;
mod view_audit;
mod views;
mod window_partitions;

use std::{fmt, str::FromStr, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Semaphore;

use self::{
    commit::CommitModeSelector,
    connections::{ConnectionPool, PoolEpoch},
    connector::Connector,
    stats_rows::RowLoad,
    window_partitions::KnownPartitions,
};
pub use self::{
    failure::ConnectError,
    import::ImportError,
    schema::MigrateError,
    tls::{ClientCertificate, PostgresTls, SslMode, TlsSettingsError, UnknownSslMode},
};
use ping_ports::StoreError;
use ping_sql::SqlError;

/// Session settings for writing. The plan of a commit never depends on its values; planning every commit costs 11 % more CPU
/// at batches of 1 to 16 events.
const WRITE_SETTINGS: &str = "SET plan_cache_mode = force_generic_plan";

/// Session settings for reading. The plan of a read depends on its values: a range may be an hour or a year. A connection is closed
/// when its caller leaves or the call takes too long; Postgres then cancels the statement within a second.
const READ_SETTINGS: &str = "SET plan_cache_mode = auto; SET client_connection_check_interval = '1s'";

/// How the store talks to Postgres.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The name in `pg_stat_activity`, unless the URL contains one.
    pub application_name: String,
    /// Encryption, and how the server proves who it is.
    pub tls: PostgresTls,
    /// Maximum number of connections for writing. They are opened when needed and then stay open.
    pub max_write_connections: usize,
    /// Maximum number of connections for reading. They are opened when needed and then stay open.
    pub max_read_connections: usize,
    /// How long a call may take. After that its connection is closed, and the outcome is unknown.
    pub timeout: Duration,
    /// How long a statement that writes waits for a lock. Then the server undoes it and says so. Should be shorter than `timeout`: while a
    /// backend waits for a lock, it does not notice that the connection was closed, and the next call starts another backend.
    pub lock_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            application_name: "ping".into(),
            tls: PostgresTls::default(),
            max_write_connections: 16,
            max_read_connections: 8,
            timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(4),
        }
    }
}

/// Implements every store port.
pub struct PostgresStore {
    connector: Connector,
    /// For lanes, publishers and relays, which must not wait for readers.
    write_pool: ConnectionPool,
    /// For all other calls.
    read_pool: ConnectionPool,
    /// Half of the connections for reading: statements that read many rows use no more, so that counts always find one.
    large_reads: Semaphore,
    timeout: Duration,
    commit_mode: CommitModeSelector,
    known_partitions: KnownPartitions,
    row_load: RowLoad,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// A store at `url` that connects at its first use. The URL's `sslmode`, `sslrootcert`, … are those of libpq; the settings in
    /// `options` take precedence.
    ///
    /// # Errors
    /// When the URL is not valid, the TLS settings contradict each other, or another machine would be contacted in plaintext
    /// although the settings do not say so.
    pub fn new(url: &str, options: &PostgresOptions) -> Result<Self, StoreError> {
        let mut connect = PgConnectOptions::from_str(url).map_err(|error| StoreError(SqlError(error).into()))?;
        if connect.get_application_name().is_none() {
            connect = connect.application_name(&options.application_name);
        }
        let connect = options.tls.apply(connect).map_err(|error| StoreError(error.into()))?;
        let connector = Connector::new(connect, options.tls.clone());
        let epoch = PoolEpoch::default();
        let write_settings = format!("{WRITE_SETTINGS}; SET lock_timeout = {}", millis(options.lock_timeout));
        Ok(Self {
            write_pool: ConnectionPool::new(
                connector.clone(),
                options.max_write_connections,
                &write_settings,
                epoch.clone(),
            ),
            large_reads: Semaphore::new((options.max_read_connections / 2).max(1)),
            read_pool: ConnectionPool::new(connector.clone(), options.max_read_connections, READ_SETTINGS, epoch),
            connector,
            timeout: options.timeout,
            commit_mode: CommitModeSelector::default(),
            known_partitions: KnownPartitions::default(),
            row_load: RowLoad::default(),
        })
    }

    /// Like [`PostgresStore::new`], but opens one connection of each pool at once, so that the first call does not wait for it.
    ///
    /// # Errors
    /// When the URL is not valid or Postgres cannot be reached.
    pub async fn connect(url: &str, options: &PostgresOptions) -> Result<Self, StoreError> {
        let store = Self::new(url, options)?;
        store.write_pool.acquire().await?.release();
        store.read_pool.acquire().await?.release();
        Ok(store)
    }
}

/// A duration as a parameter of a statement. One of more than 292 million years saturates.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
