//! Drops what lies before the cutoff. Whatever is dropped is added to `dropped_minutes` and to the base in the same transaction.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    base::merge_base,
    days::partition_name,
    event_tables::{
        EVENTS, LOCK_RETENTION, LONG_LOCK, MILLISECONDS, SHORT_LOCK, is_lock_timeout, is_of_day, partitions, run, state,
    },
    row_sums::{RowSums, summed},
    segments::insert_into_base,
};
use ping_core::{Day, Millis, Minute, RetentionCutoffs, ids_before};
use ping_segments::Changes;

/// Attempts to get the lock for dropping a table, which waits for long reads.
const DROP_ATTEMPTS: u32 = 30;
const DROP_PAUSE: Duration = Duration::from_secs(1);
/// Rows that one transaction deletes.
const ROWS_AT_ONCE: i64 = 10_000;
/// Memory of the events that are summed at once, in bytes. Sorting them takes some 10 ms, in which a processor does nothing else.
const SUMMED_BYTES: usize = 4 << 20;
/// Transactions, or chunks of a day, after which the base is merged.
const CHUNKS_PER_MERGE: usize = 50;
/// Releases the locks of a client that is lost in the middle of its transaction.
const IDLE_TIMEOUT: &str = "SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Rows are found in the order of an index, whatever the planner expects: with the statistics of other days, it would read and sort all of them
/// for each chunk.
const BY_INDEX: &str = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off";

const ADD_MINUTES: &str = "INSERT INTO dropped_minutes AS d (minute, count, attributed)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
ON CONFLICT (minute) DO UPDATE SET count = d.count + excluded.count, attributed = d.attributed + excluded.attributed";
const SET_MILLISECONDS_FROM: &str = "UPDATE event_retention SET milliseconds_from = $1 WHERE milliseconds_from < $1";

/// Drops events of days before `first_day`; returns how many.
pub(super) async fn drop_events(
    connection: &mut PgConnection,
    first_day: Day,
    cutoffs: RetentionCutoffs,
) -> Result<u64, sqlx::Error> {
    let mut dropped = 0;
    let first = partition_name(EVENTS, first_day).map_err(|error| sqlx::Error::Configuration(error.0))?;
    for partition in partitions(connection, EVENTS).await? {
        if !is_of_day(EVENTS, &partition) {
            dropped += delete_events(connection, &partition, first_day, cutoffs).await?;
        } else if partition < first {
            dropped += drop_day(connection, &partition, cutoffs, SUMMED_BYTES).await?;
        }
    }
    Ok(dropped)
}

/// Drops a day's partition. `max_bytes`: memory of the events that are summed at once.
async fn drop_day(
    connection: &mut PgConnection,
    partition: &str,
    cutoffs: RetentionCutoffs,
    max_bytes: usize,
) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    run(&mut transaction, format!("{IDLE_TIMEOUT}; {LONG_LOCK}; {LOCK_RETENTION}")).await?;
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(partition).fetch_one(&mut *transaction).await?;
    if !exists {
        return Ok(0);
    }
    run(&mut transaction, format!("LOCK TABLE {partition} IN SHARE MODE")).await?;
    check_droppable(&mut transaction, partition).await?;
    let count = AssertSqlSafe(format!(
        "WITH per_minute AS (
            SELECT timestamp_ms / 60000 AS minute, count(*) AS count, count(source) AS attributed FROM {partition} GROUP BY 1),
        added AS (
            INSERT INTO dropped_minutes AS d (minute, count, attributed) SELECT minute, count, attributed FROM per_minute
            ON CONFLICT (minute) DO UPDATE SET count = d.count + excluded.count, attributed = d.attributed + excluded.attributed)
        SELECT coalesce(sum(count), 0)::bigint FROM per_minute"
    ));
    let dropped: i64 = sqlx::query_scalar(count).fetch_one(&mut *transaction).await?;
    let select = format!("SELECT source, coalesce(kind, ''), timestamp_ms FROM {partition} WHERE source IS NOT NULL");
    let mut sums = RowSums::open(&mut transaction, &select, max_bytes).await?;
    let mut chunk = 0;
    while let Some(segments) = sums.next(&mut transaction, cutoffs, &mut BTreeMap::new()).await? {
        insert_into_base(&mut transaction, &segments).await?;
        chunk += 1;
        // A merge holds all segments of a place in memory.
        if chunk % CHUNKS_PER_MERGE == 0 {
            merge_base(&mut transaction).await?;
        }
    }
    merge_base(&mut transaction).await?;
    drop_tables(&mut transaction, partition).await?;
    transaction.commit().await?;
    Ok(dropped.unsigned_abs())
}

/// Fails at once if a long read is in the way of dropping `partition`: summing a day takes minutes, and would be in vain.
async fn check_droppable(transaction: &mut PgConnection, partition: &str) -> Result<(), sqlx::Error> {
    let mut savepoint = transaction.begin().await?;
    // Dropping a partition also locks its table.
    let lock = format!("{SHORT_LOCK}; LOCK TABLE ONLY {EVENTS}, ONLY {partition} IN ACCESS EXCLUSIVE MODE");
    run(&mut savepoint, lock).await?;
    savepoint.rollback().await
}

/// Drops `tables`. Commits wait for the lock as long as this does, so it gives up early and tries again.
async fn drop_tables(transaction: &mut PgConnection, tables: &str) -> Result<(), sqlx::Error> {
    for attempt in 1.. {
        let mut savepoint = transaction.begin().await?;
        match run(&mut savepoint, format!("{SHORT_LOCK}; DROP TABLE {tables}")).await {
            Ok(()) => return savepoint.commit().await,
            Err(error) if is_lock_timeout(&error) && attempt < DROP_ATTEMPTS => {
                savepoint.rollback().await?;
                sleep(DROP_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Deletes the events of days before `first_day` from a table that also holds others.
async fn delete_events(
    connection: &mut PgConnection,
    table: &str,
    first_day: Day,
    cutoffs: RetentionCutoffs,
) -> Result<u64, sqlx::Error> {
    // Ids between the two that have a day are of an earlier one.
    let delete = format!(
        "DELETE FROM {table} WHERE id = ANY (ARRAY(
            SELECT id FROM {table} WHERE id > $1 AND id < $2 AND event_id_day(id) >= 0 ORDER BY id LIMIT $3))
        RETURNING id, coalesce(source, ''), coalesce(kind, ''), timestamp_ms"
    );
    let (mut after, before) = ids_before(first_day);
    let mut dropped = 0;
    for chunk in 1.. {
        let began = Instant::now();
        let mut transaction = connection.begin().await?;
        run(&mut transaction, format!("{IDLE_TIMEOUT}; {BY_INDEX}; {LONG_LOCK}; {LOCK_RETENTION}")).await?;
        let rows = sqlx::query_as::<_, (Uuid, String, String, Millis)>(AssertSqlSafe(delete.clone()));
        let rows = rows.bind(after).bind(before).bind(ROWS_AT_ONCE);
        let rows = rows.fetch_all(&mut *transaction).await?;
        let is_last = (rows.len() as u64) < ROWS_AT_ONCE.unsigned_abs();
        after = rows.iter().map(|(id, ..)| *id).max().unwrap_or(after);
        dropped += rows.len() as u64;
        add_to_base(&mut transaction, &rows, cutoffs).await?;
        if dropped > 0 && (is_last || chunk % CHUNKS_PER_MERGE == 0) {
            merge_base(&mut transaction).await?;
        }
        transaction.commit().await?;
        if is_last {
            break;
        }
        // Half of the time is left to others.
        sleep(began.elapsed()).await;
    }
    Ok(dropped)
}

async fn add_to_base(
    transaction: &mut PgConnection,
    rows: &[(Uuid, String, String, Millis)],
    cutoffs: RetentionCutoffs,
) -> Result<(), sqlx::Error> {
    let mut minutes: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut changes = Changes::default();
    for (_, source, kind, timestamp_ms) in rows {
        let has_source = changes.add(source, kind, *timestamp_ms);
        let minute = minutes.entry(Minute::of(*timestamp_ms).0).or_default();
        *minute = (minute.0 + 1, minute.1 + i64::from(has_source));
    }
    let add = sqlx::query(ADD_MINUTES)
        .bind(minutes.keys().copied().collect::<Vec<_>>())
        .bind(minutes.values().map(|(count, _)| *count).collect::<Vec<_>>())
        .bind(minutes.values().map(|(_, attributed)| *attributed).collect::<Vec<_>>());
    add.execute(&mut *transaction).await?;
    insert_into_base(transaction, &summed(&changes, cutoffs).await?).await
}

/// Drops counts per millisecond of days before `first_day`.
pub(super) async fn drop_milliseconds(connection: &mut PgConnection, first_day: Day) -> Result<(), sqlx::Error> {
    let first = partition_name(MILLISECONDS, first_day).map_err(|error| sqlx::Error::Configuration(error.0))?;
    let before = format!("{MILLISECONDS}_before");
    let mut transaction = connection.begin().await?;
    run(&mut transaction, format!("{IDLE_TIMEOUT}; {LONG_LOCK}; {LOCK_RETENTION}")).await?;
    sqlx::query(SET_MILLISECONDS_FROM).bind(first_day.start()).execute(&mut *transaction).await?;
    let cutover = state(&mut transaction).await?.cutover_day.map(i64::from);
    let (expired, others): (Vec<_>, Vec<_>) =
        partitions(&mut transaction, MILLISECONDS).await?.into_iter().partition(|partition| {
            is_of_day(MILLISECONDS, partition) && *partition < first
                || *partition == before && cutover.is_some_and(|cutover| cutover <= first_day.0)
        });
    if !expired.is_empty() {
        drop_tables(&mut transaction, &expired.join(", ")).await?;
    }
    transaction.commit().await?;
    // No statement reads them any more.
    for table in others.iter().filter(|table| !is_of_day(MILLISECONDS, table)) {
        let delete = format!(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE timestamp_ms < $1 LIMIT $2))"
        );
        loop {
            let began = Instant::now();
            let delete = sqlx::query(AssertSqlSafe(delete.clone())).bind(first_day.start()).bind(ROWS_AT_ONCE);
            if delete.execute(&mut *connection).await?.rows_affected() < ROWS_AT_ONCE.unsigned_abs() {
                break;
            }
            sleep(began.elapsed()).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
