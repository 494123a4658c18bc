//! Adding to the views: counts and positions change in one transaction, fenced by the rows of the positions.
//!
//! Its statements are short. One with ten thousand rows occupies a core for a fifth of a second, and the scheduler preempts it only
//! every few milliseconds, so a concurrent read would wait that long at each of its hops.

use std::{collections::BTreeSet, time::Duration};

use sqlx::{Connection, PgConnection, Postgres, postgres::PgArguments, query::QueryScalar};
use tokio::time::timeout;

use super::PostgresStore;
use ping_core::{Day, Offset, Partition, SourceCounts};
use ping_ports::{Advance, StoreError};

/// Rows per statement: they take about a millisecond.
const ROWS_PER_STATEMENT: usize = 64;
/// Milliseconds added to the call's time limit for each row. That is fifty times what a row takes on an idle machine.
const TIMEOUT_MS_PER_ROW: u64 = 1;

/// Gives partitions that were added to the topic a position: offset 0, and no later watermark than the other partitions have.
const GROW: &str = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
SELECT grown, 0, (SELECT coalesce(min(as_of_ms), 0) FROM source_positions)
FROM source_views, unnest($1::int[]) AS g (grown) ON CONFLICT DO NOTHING";

const FENCE: &str = include_str!("sql/advance_views.sql");

// Rows are written in the order of their keys, so that concurrent transactions cannot deadlock.
const WINDOWS: &str = "INSERT INTO source_windows AS w (source, bucket, count, first_ms, last_ms)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (source, bucket) DO UPDATE SET count = w.count + excluded.count,
    first_ms = least(w.first_ms, excluded.first_ms), last_ms = greatest(w.last_ms, excluded.last_ms)";
const DAYS: &str = "INSERT INTO source_past_days AS d (source, day, count)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
ON CONFLICT (source, day) DO UPDATE SET count = d.count + excluded.count";
const KINDS: &str = "INSERT INTO source_kinds AS k (source, kind, count, first_ms, last_ms)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (source, kind) DO UPDATE SET count = k.count + excluded.count,
    first_ms = least(k.first_ms, excluded.first_ms), last_ms = greatest(k.last_ms, excluded.last_ms)";
const MINUTES: &str = "INSERT INTO source_minutes (minute, source)
SELECT * FROM unnest($1::bigint[], $2::text[]) ON CONFLICT DO NOTHING";

/// One column of `rows`.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// The statement that moves the positions. It returns the first open day if they were as expected.
fn fence(advance: &Advance) -> QueryScalar<'_, Postgres, i64, PgArguments> {
    let next_offset = |partition| advance.to.get(partition).copied().unwrap_or_default();
    sqlx::query_scalar(FENCE)
        .bind(&advance.generation)
        .bind(advance.from.keys().copied().collect::<Vec<Partition>>())
        .bind(advance.from.values().copied().collect::<Vec<_>>())
        .bind(advance.from.keys().map(next_offset).collect::<Vec<Offset>>())
        .bind(advance.marks.keys().map(|(writer, _)| writer.0).collect::<Vec<_>>())
        .bind(advance.marks.keys().map(|(_, partition)| *partition).collect::<Vec<_>>())
        .bind(advance.marks.values().copied().collect::<Vec<_>>())
        .bind(advance.as_of.unwrap_or(0))
}

/// Adds the rows. `has_row` tells whether a day is counted in a row of its own instead of in its windows.
async fn add(
    connection: &mut PgConnection,
    counts: &SourceCounts,
    has_row: impl Fn(Day) -> bool,
) -> Result<(), sqlx::Error> {
    let windows: Vec<_> = counts.windows.iter().collect();
    for rows in windows.chunks(ROWS_PER_STATEMENT) {
        let query = sqlx::query(WINDOWS)
            .bind(column(rows, |((source, _), _)| &**source))
            .bind(column(rows, |((_, window), _)| window.0))
            .bind(column(rows, |(_, span)| span.count))
            .bind(column(rows, |(_, span)| span.first))
            .bind(column(rows, |(_, span)| span.last));
        query.execute(&mut *connection).await?;
    }
    let days: Vec<_> = counts.days.iter().filter(|((_, day), _)| has_row(*day)).collect();
    for rows in days.chunks(ROWS_PER_STATEMENT) {
        let query = sqlx::query(DAYS)
            .bind(column(rows, |((source, _), _)| &**source))
            .bind(column(rows, |((_, day), _)| day.0))
            .bind(column(rows, |(_, count)| **count));
        query.execute(&mut *connection).await?;
    }
    let kinds: Vec<_> = counts.kinds.iter().collect();
    for rows in kinds.chunks(ROWS_PER_STATEMENT) {
        let query = sqlx::query(KINDS)
            .bind(column(rows, |((source, _), _)| &**source))
            .bind(column(rows, |((_, kind), _)| &**kind))
            .bind(column(rows, |(_, span)| span.count))
            .bind(column(rows, |(_, span)| span.first))
            .bind(column(rows, |(_, span)| span.last));
        query.execute(&mut *connection).await?;
    }
    let minutes: Vec<_> = counts.minutes.iter().collect();
    for rows in minutes.chunks(ROWS_PER_STATEMENT) {
        let query =
            sqlx::query(MINUTES).bind(column(rows, |(minute, _)| minute.0)).bind(column(rows, |(_, source)| &**source));
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

impl PostgresStore {
    /// Adds `counts` and moves the positions; false when the positions are not the expected ones. `windowed` are the days whose
    /// windows are among the counts; every other day is too old to have windows.
    pub(super) async fn advance(
        &self,
        advance: &Advance,
        counts: &SourceCounts,
        windowed: &BTreeSet<Day>,
    ) -> Result<bool, StoreError> {
        // The watermark is the minimum over all partitions, so each of them needs a row.
        let partitions = Partition::try_from(advance.partitions).map_err(|error| StoreError(error.into()))?;
        let all = 0..advance.as_of.map_or(0, |_| partitions);
        let first = advance.from.iter().filter(|(_, at)| **at == 0).map(|(partition, _)| *partition);
        let grown: Vec<_> = first.chain(all).collect();
        let rows = counts.windows.len() + counts.days.len() + counts.kinds.len() + counts.minutes.len();
        let limit = self.timeout + Duration::from_millis(TIMEOUT_MS_PER_ROW * rows as u64);
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(limit, async {
            if !grown.is_empty() {
                sqlx::query(GROW).bind(grown).execute(connection.get_mut()).await?;
            }
            let mut transaction = connection.get_mut().begin().await?;
            let Some(days_from) = fence(advance).fetch_optional(&mut *transaction).await? else {
                transaction.rollback().await?;
                return Ok(false);
            };
            add(&mut transaction, counts, |day| day.0 < days_from || !windowed.contains(&day)).await?;
            transaction.commit().await?;
            Ok(true)
        });
        let result = result.await;
        Ok(connection.finish(result)?)
    }
}
