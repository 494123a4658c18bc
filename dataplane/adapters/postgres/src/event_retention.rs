//! Retention of events: the cutoff, and what is done in which order.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{
    PostgresStore,
    conversion::convert,
    days::partition_name,
    dropping::{drop_events, drop_milliseconds},
    event_tables::{EVENTS, LOCK_RETENTION, RetentionRow, SHORT_LOCK, is_of_day, partitions, run, state},
    failure::{CUTOFF_CONSTRAINT, Failure, Timeout},
    partitions::create_days,
};
use ping_core::{Day, Millis, RetentionCutoffs};
use ping_ports::{EventCutoff, EventRetention, StoreError};

/// Processors take turns: what one of them does, the others need not do. A turn also ends with its connection.
const TAKE_TURN: &str = "SELECT pg_try_advisory_lock(hashtext('event_retention'))";
const END_TURN: &str = "SELECT pg_advisory_unlock(hashtext('event_retention'))";
/// Limit of a step. One that reads a table takes as long as that.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
const MOVE: &str = "UPDATE event_retention SET first_day = $1, moved_ms = $2";

impl PostgresStore {
    /// Does `work`, which may take long, on a connection that no one else waits for.
    async fn on_its_own<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut connection = self.write_pool.dedicated().await?;
        match timeout(LIMIT, work(&mut connection)).await {
            Ok(done) => Ok(done.map_err(|error| Failure::classify(error).0)?),
            Err(_) => Err(Failure::Unknown(Timeout.into()).into()),
        }
    }
}

/// Makes every table that may get an id of a day before `first_day` refuse it.
async fn move_cutoff(connection: &mut PgConnection, first_day: Day, now: Millis) -> Result<(), sqlx::Error> {
    let first = partition_name(EVENTS, first_day).map_err(|error| sqlx::Error::Configuration(error.0))?;
    let mut transaction = connection.begin().await?;
    run(&mut transaction, format!("{SHORT_LOCK}; {LOCK_RETENTION}")).await?;
    let row = state(&mut transaction).await?;
    if row.first_day().is_some_and(|held| held >= first_day) {
        return transaction.rollback().await;
    }
    let mut tables = partitions(&mut transaction, EVENTS).await?;
    tables.retain(|table| !is_of_day(EVENTS, table) || *table < first);
    if !row.partitioned {
        tables.push(EVENTS.into());
    }
    for table in tables {
        // Not validated: rows that are there are about to be dropped.
        let constrain = format!(
            "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {CUTOFF_CONSTRAINT},
            ADD CONSTRAINT {CUTOFF_CONSTRAINT} CHECK (id_day < 0 OR id_day >= {}) NOT VALID",
            first_day.0
        );
        run(&mut transaction, constrain).await?;
    }
    sqlx::query(MOVE).bind(first_day.0).bind(now).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Does `work`, unless another program is doing it.
async fn in_turn<T: Default>(
    connection: &mut PgConnection,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    if !sqlx::query_scalar::<_, bool>(TAKE_TURN).fetch_one(&mut *connection).await? {
        return Ok(T::default());
    }
    let done = work(connection).await?;
    sqlx::query(END_TURN).execute(connection).await?;
    Ok(done)
}

/// Partitions the tables if that was not done, and creates partitions.
async fn prepare_days(connection: &mut PgConnection, today: Day) -> Result<(), sqlx::Error> {
    let mut row = state(connection).await?;
    if row.first_day.is_none() {
        return Ok(());
    }
    if !row.partitioned {
        convert(connection, row, today).await?;
        row = state(connection).await?;
    }
    create_days(connection, row, today).await
}

async fn drop_expired(connection: &mut PgConnection, cutoffs: RetentionCutoffs) -> Result<Option<u64>, sqlx::Error> {
    let row = state(connection).await?;
    let Some(first_day) = row.first_day().filter(|_| row.partitioned) else { return Ok(None) };
    let dropped = drop_events(connection, first_day, cutoffs).await?;
    drop_milliseconds(connection, first_day).await?;
    Ok(Some(dropped))
}

#[async_trait]
impl EventRetention for PostgresStore {
    async fn event_cutoff(&self) -> Result<EventCutoff, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(self.timeout, state(connection.get_mut())).await;
        let row = connection.finish(result)?;
        let RetentionRow { moved_ms, milliseconds_from, now_ms, .. } = row;
        Ok(EventCutoff { now: now_ms, first_day: row.first_day(), moved_at: moved_ms, milliseconds_from })
    }

    async fn move_cutoff(&self, first_day: Day, now: Millis) -> Result<(), StoreError> {
        self.on_its_own(async |connection| move_cutoff(connection, first_day, now).await).await
    }

    async fn prepare_days(&self, today: Day) -> Result<(), StoreError> {
        let prepare = async |connection: &mut PgConnection| prepare_days(connection, today).await;
        self.on_its_own(async |connection| in_turn(connection, prepare).await).await
    }

    async fn drop_expired(&self, cutoffs: RetentionCutoffs) -> Result<Option<u64>, StoreError> {
        let drop = async |connection: &mut PgConnection| drop_expired(connection, cutoffs).await;
        self.on_its_own(async |connection| in_turn(connection, drop).await).await
    }
}
