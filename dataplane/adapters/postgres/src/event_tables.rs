//! The tables of events and of counts per millisecond: plain at first, partitioned by day once retention is set.
//!
//! After the conversion, `<table>_before` holds what is of days before the cutover (and all ids without a day), `<table>_<date>` one day, and
//! `<table>_rest` what has no partition: days that are far ahead, and times of days that were dropped.

use sqlx::{AssertSqlSafe, PgConnection};

use ping_core::Day;

/// The two tables.
pub(super) const EVENTS: &str = "events";
pub(super) const MILLISECONDS: &str = "millisecond_counts";

/// How long a statement waits for a lock that makes commits wait. Then it gives up, and is repeated later.
pub(super) const SHORT_LOCK: &str = "SET LOCAL lock_timeout = '200ms'";
/// How long a statement waits for a lock that commits do not wait for. A vacuum ends within a second if it is in the way.
pub(super) const LONG_LOCK: &str = "SET LOCAL lock_timeout = '10s'";
/// Admits one program at a time to whatever changes the tables, and no rebuild of the views meanwhile. Readers are not affected.
pub(super) const LOCK_RETENTION: &str = "LOCK TABLE event_retention IN EXCLUSIVE MODE";

const STATE: &str = "SELECT first_day, moved_ms, milliseconds_from, cutover_day, partitioned,
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms FROM event_retention";
const PARTITIONS: &str = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::regclass ORDER BY 1";

/// The row of `event_retention`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetentionRow {
    pub(super) first_day: Option<i32>,
    pub(super) moved_ms: i64,
    pub(super) milliseconds_from: i64,
    pub(super) cutover_day: Option<i32>,
    pub(super) partitioned: bool,
    /// Store time.
    pub(super) now_ms: i64,
}

ping_sql::from_row!(RetentionRow of sqlx::postgres::PgRow { first_day, moved_ms, milliseconds_from, cutover_day, partitioned, now_ms });

impl RetentionRow {
    /// The first day whose ids are accepted.
    pub(super) fn first_day(&self) -> Option<Day> {
        self.first_day.map(|day| Day(day.into()))
    }
}

pub(super) async fn state(connection: &mut PgConnection) -> Result<RetentionRow, sqlx::Error> {
    sqlx::query_as(STATE).fetch_one(connection).await
}

/// The names of the partitions of `table`.
pub(super) async fn partitions(connection: &mut PgConnection, table: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(PARTITIONS).bind(table).fetch_all(connection).await
}

/// Whether `partition` of `table` holds a day.
pub(super) fn is_of_day(table: &str, partition: &str) -> bool {
    let date = partition.strip_prefix(table).and_then(|rest| rest.strip_prefix('_'));
    date.is_some_and(|date| date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Runs statements without parameters.
pub(super) async fn run(connection: &mut PgConnection, statements: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await?;
    Ok(())
}

/// Whether a statement gave up waiting for a lock.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_names_a_day() {
        assert!(is_of_day("events", "events_20261130"));
        for other in ["events_before", "events_rest", "events_2026113", "other_20261130"] {
            assert!(!is_of_day("events", other), "{other}");
        }
    }
}
