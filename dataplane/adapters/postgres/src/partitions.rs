//! Partitions for the days that come.

use sqlx::{Connection, PgConnection};

use super::{
    days::partition_name,
    event_tables::{EVENTS, LOCK_RETENTION, MILLISECONDS, RetentionRow, SHORT_LOCK, partitions, run},
};
use ping_core::Day;

/// Days that have a partition before they begin. If no processor runs for longer, later days go to `<table>_rest`, and are moved later.
const DAYS_AHEAD: i64 = 14;

/// Settings of a table like the ones in migration 1, which partitions do not inherit.
const EVENTS_SETTINGS: &str =
    "ALTER id SET STATISTICS 10, ALTER timestamp_ms SET STATISTICS 10, ALTER source SET STATISTICS 10,
    ALTER kind SET STATISTICS 10, ALTER id_day SET STATISTICS 10, SET (autovacuum_vacuum_insert_scale_factor = 0.05)";
const MILLISECONDS_SETTINGS: &str = "SET (autovacuum_vacuum_insert_scale_factor = 0.05)";

/// The statements that create `name` like a partition of `table`, without attaching it.
pub(super) fn create(table: &str, like: &str, name: &str) -> String {
    let settings = if table == EVENTS { EVENTS_SETTINGS } else { MILLISECONDS_SETTINGS };
    format!("CREATE TABLE {name} (LIKE {like} INCLUDING INDEXES); ALTER TABLE {name} {settings};")
}

/// Creates the missing partitions of both tables, from the cutover on.
pub(super) async fn create_days(
    connection: &mut PgConnection,
    row: RetentionRow,
    today: Day,
) -> Result<(), sqlx::Error> {
    let cutover = row.cutover_day.map_or(today.0, i64::from);
    let kept_from = [(EVENTS, row.first_day().unwrap_or(Day(0))), (MILLISECONDS, Day::of(row.milliseconds_from))];
    for (table, kept_from) in kept_from {
        let existing = partitions(connection, table).await?;
        for day in (cutover.max(kept_from.0)..=today.0 + DAYS_AHEAD).map(Day) {
            let name = partition_name(table, day).map_err(|error| sqlx::Error::Configuration(error.0))?;
            if !existing.contains(&name) {
                create_day(connection, table, &name, day).await?;
            }
        }
    }
    Ok(())
}

/// Creates the partition of a day, and moves the rows into it that came before.
async fn create_day(connection: &mut PgConnection, table: &str, name: &str, day: Day) -> Result<(), sqlx::Error> {
    let (rest, next) = (format!("{table}_rest"), Day(day.0 + 1));
    let (column, from, to) = match table {
        EVENTS => ("id_day", day.0, next.0),
        _ => ("timestamp_ms", day.start(), next.start()),
    };
    let create = create(table, &rest, name);
    let statements = format!(
        "{SHORT_LOCK}; {LOCK_RETENTION}; {create} LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE;
        WITH moved AS (DELETE FROM {rest} WHERE {column} >= {from} AND {column} < {to} RETURNING *)
        INSERT INTO {name} SELECT * FROM moved;
        ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"
    );
    let mut transaction = connection.begin().await?;
    run(&mut transaction, statements).await?;
    transaction.commit().await
}
