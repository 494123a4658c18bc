//! Daily partitions of the windows for SQL. A report or a dump may read the table for hours: neither creating nor dropping a partition makes
//! checkpoints wait for it.

use std::{collections::BTreeSet, time::Duration};

use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use super::{
    PostgresStore,
    days::partition_name,
    event_tables::{SHORT_LOCK, partitions, run},
};
use ping_core::Day;
use ping_ports::StoreError;

/// The table.
const WINDOWS: &str = "source_windows";
/// Limit of creating partitions.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);
/// Columns with a small statistics target: migration 1 says why. Partitions do not inherit it.
const SAMPLED_COLUMNS: [&str; 5] = ["source", "bucket", "count", "first_ms", "last_ms"];
/// Their statistics target; the default is 100.
const STATISTICS_TARGET: u32 = 10;

/// Days whose partition is known to exist.
#[derive(Debug, Default)]
pub(super) struct KnownPartitions(Mutex<BTreeSet<Day>>);

impl KnownPartitions {
    /// Partitions may have been dropped.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The partitions of days before `first` were dropped.
    pub(super) fn forget_before(&self, first: Day) {
        self.0.lock().retain(|day| *day >= first);
    }
}

/// The statement that creates a day's partition unless it exists.
fn create_partition(day: Day) -> Result<String, StoreError> {
    let (name, from, to) = (partition_name(WINDOWS, day)?, day.first_window().0, Day(day.0 + 1).first_window().0);
    let statistics =
        SAMPLED_COLUMNS.map(|column| format!("ALTER {column} SET STATISTICS {STATISTICS_TARGET}")).join(", ");
    // Attaching a table waits for no reader, unlike `PARTITION OF`. Not `IF NOT EXISTS`: altering an existing partition again would wait for
    // a vacuum of it.
    Ok(format!(
        "; DO $$ BEGIN IF to_regclass('{name}') IS NULL THEN
            CREATE TABLE {name} (LIKE {WINDOWS} INCLUDING INDEXES) WITH (fillfactor = 80);
            ALTER TABLE {name} {statistics};
            ALTER TABLE {WINDOWS} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to});
        END IF; END $$"
    ))
}

/// Drops the partitions of days before `first`. Fails if one is being read: checkpoints wait for the lock as long as this does, so it gives
/// up early.
pub(super) async fn drop_partitions(connection: &mut PgConnection, first: Day) -> Result<(), sqlx::Error> {
    let first = partition_name(WINDOWS, first).map_err(|error| sqlx::Error::Configuration(error.0))?;
    // Their names sort like their days.
    for expired in partitions(connection, WINDOWS).await?.iter().filter(|partition| **partition < first) {
        let mut transaction = connection.begin().await?;
        run(&mut transaction, format!("{SHORT_LOCK}; DROP TABLE IF EXISTS {expired}")).await?;
        transaction.commit().await?;
    }
    Ok(())
}

impl PostgresStore {
    /// Creates the missing partitions for `days`.
    pub(super) async fn create_partitions(&self, days: impl IntoIterator<Item = Day>) -> Result<(), StoreError> {
        let missing: Vec<_> = {
            let known = self.known_partitions.0.lock();
            days.into_iter().filter(|day| !known.contains(day)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        // The lock lets one process create partitions at a time: two that create the same one would fail.
        let mut sql = "SELECT pg_advisory_xact_lock(hashtext('source_windows'))".to_owned();
        for day in &missing {
            sql += &create_partition(*day)?;
        }
        let mut connection = self.write_pool.acquire().await?;
        let create = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection.get_mut());
        let result = timeout(CREATE_TIMEOUT, create).await;
        connection.finish(result)?;
        self.known_partitions.0.lock().extend(missing);
        Ok(())
    }
}
