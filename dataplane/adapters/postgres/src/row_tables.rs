//! Writes the rows of windows and past days.

use sqlx::PgConnection;

use ping_core::{Day, Span, Window};

/// Rows per statement: they take less than ten milliseconds.
const ROWS_PER_STATEMENT: usize = 512;

// Rows are written in the order of their keys, so that concurrent transactions cannot deadlock.
const ADD_WINDOWS: &str = "INSERT INTO source_windows AS w (source, bucket, count, first_ms, last_ms)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (source, bucket) DO UPDATE SET count = w.count + excluded.count,
    first_ms = least(w.first_ms, excluded.first_ms), last_ms = greatest(w.last_ms, excluded.last_ms)";
const ADD_DAYS: &str = "INSERT INTO source_past_days AS d (source, day, count)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
ON CONFLICT (source, day) DO UPDATE SET count = d.count + excluded.count";
const SET_WINDOWS: &str = "INSERT INTO source_windows (source, bucket, count, first_ms, last_ms)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (source, bucket) DO UPDATE SET count = excluded.count, first_ms = excluded.first_ms, last_ms = excluded.last_ms";
const SET_DAYS: &str = "INSERT INTO source_past_days (source, day, count)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
ON CONFLICT (source, day) DO UPDATE SET count = excluded.count";

/// Adds to the rows of windows.
pub(super) async fn add_windows(
    connection: &mut PgConnection,
    windows: &[(Box<str>, Window, Span)],
) -> Result<(), sqlx::Error> {
    write_windows(connection, ADD_WINDOWS, windows).await
}

/// Replaces rows of windows.
pub(super) async fn set_windows(
    connection: &mut PgConnection,
    windows: &[(Box<str>, Window, Span)],
) -> Result<(), sqlx::Error> {
    write_windows(connection, SET_WINDOWS, windows).await
}

async fn write_windows(
    connection: &mut PgConnection,
    statement: &'static str,
    windows: &[(Box<str>, Window, Span)],
) -> Result<(), sqlx::Error> {
    for rows in windows.chunks(ROWS_PER_STATEMENT) {
        let query = sqlx::query(statement)
            .bind(rows.iter().map(|(source, ..)| &**source).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, window, _)| window.0).collect::<Vec<_>>())
            .bind(rows.iter().map(|(.., span)| span.count).collect::<Vec<_>>())
            .bind(rows.iter().map(|(.., span)| span.first).collect::<Vec<_>>())
            .bind(rows.iter().map(|(.., span)| span.last).collect::<Vec<_>>());
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds to the rows of days.
pub(super) async fn add_days(connection: &mut PgConnection, days: &[(Box<str>, Day, i64)]) -> Result<(), sqlx::Error> {
    write_days(connection, ADD_DAYS, days).await
}

/// Replaces rows of days.
pub(super) async fn set_days(connection: &mut PgConnection, days: &[(Box<str>, Day, i64)]) -> Result<(), sqlx::Error> {
    write_days(connection, SET_DAYS, days).await
}

async fn write_days(
    connection: &mut PgConnection,
    statement: &'static str,
    days: &[(Box<str>, Day, i64)],
) -> Result<(), sqlx::Error> {
    for rows in days.chunks(ROWS_PER_STATEMENT) {
        let query = sqlx::query(statement)
            .bind(rows.iter().map(|(source, ..)| &**source).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, day, _)| day.0).collect::<Vec<_>>())
            .bind(rows.iter().map(|(.., count)| *count).collect::<Vec<_>>());
        query.execute(&mut *connection).await?;
    }
    Ok(())
}
