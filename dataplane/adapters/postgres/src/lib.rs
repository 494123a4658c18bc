//! The store of record in Postgres 15 or later. Every call that somebody waits for is one statement on a connection of its own, so
//! that it has one snapshot, one round trip and no transaction that a lost client could leave open.

mod apply;
mod commit;
mod connections;
mod events;
mod failure;
mod import;
mod outbox;
mod schema;
mod sources;
mod totals;
mod views;

use std::{str::FromStr, time::Duration};

use sqlx::postgres::PgConnectOptions;

use self::{
    commit::CommitModeSelector,
    connections::{Connections, PoolEpoch},
    views::KnownPartitions,
};
pub use self::{import::ImportError, schema::MigrateError};
use ping_ports::StoreError;

/// A commit's plan never depends on its values; asking costs a tenth of a small one.
const WRITING: &str = "SET plan_cache_mode = force_generic_plan";

/// The plan of a read does: a range may be an hour or a year.
const READING: &str = "SET plan_cache_mode = auto";

/// How the store talks to Postgres.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Who we are in `pg_stat_activity`, unless the URL says.
    pub application_name: String,
    /// Most connections for writing; as many as are used at once stay open.
    pub writing: usize,
    /// Most connections for reading; as many as are used at once stay open.
    pub reading: usize,
    /// How long a call may take before its connection is thrown away and its outcome is unknown.
    pub timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { application_name: "ping".into(), writing: 16, reading: 8, timeout: Duration::from_secs(5) }
    }
}

/// Implements every store port.
pub struct PostgresStore {
    options: PgConnectOptions,
    /// For lanes, publishers and relays: never behind a reader.
    writing: Connections,
    /// For everybody else.
    reading: Connections,
    timeout: Duration,
    commit_mode: CommitModeSelector,
    covered: KnownPartitions,
}

impl PostgresStore {
    /// A store at `url` that connects when it is needed. The URL's `sslmode`, `sslrootcert`, … are those of libpq.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn new(url: &str, options: &PostgresOptions) -> Result<Self, StoreError> {
        let mut connect = PgConnectOptions::from_str(url).map_err(|error| StoreError(error.into()))?;
        if connect.get_application_name().is_none() {
            connect = connect.application_name(&options.application_name);
        }
        let trust = PoolEpoch::default();
        Ok(Self {
            writing: Connections::new(connect.clone(), options.writing, WRITING, trust.clone()),
            reading: Connections::new(connect.clone(), options.reading, READING, trust),
            options: connect,
            timeout: options.timeout,
            commit_mode: CommitModeSelector::default(),
            covered: KnownPartitions::default(),
        })
    }

    /// Like [`PostgresStore::new`], with a connection of each kind open, so that nobody waits for the first.
    ///
    /// # Errors
    /// When the URL cannot be read or Postgres does not answer.
    pub async fn connect(url: &str, options: &PostgresOptions) -> Result<Self, StoreError> {
        let store = Self::new(url, options)?;
        store.writing.take().await?.keep();
        store.reading.take().await?.keep();
        Ok(store)
    }
}

/// A duration as Postgres gets it.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
