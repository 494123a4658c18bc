//! Adding to the views: counts and positions change in one transaction, fenced by the rows of the positions themselves.
//!
//! Its statements are short. Ten thousand rows in one keep a core for a fifth of a second, and a scheduler takes a core away from
//! who is on it only every few milliseconds: a read of something else waits for that at every hop of its way.

use std::{collections::BTreeSet, time::Duration};

use sqlx::{Connection, PgConnection, Postgres, postgres::PgArguments, query::QueryScalar};
use tokio::time::timeout;

use super::PostgresStore;
use ping_core::{Day, Offset, Partition, SourceCounts};
use ping_ports::{Advance, StoreError};

/// Rows of one statement: about a millisecond.
const ROWS: usize = 64;
/// How long a row may take, in addition to what any call may: a machine that is busy with other things is fifty times slower.
const ROW: Duration = Duration::from_millis(1);

/// Partitions that the log has grown by stand at 0, and promise no more than the others do: a row to hold on to.
const GROW: &str = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
SELECT grown, 0, (SELECT coalesce(min(as_of_ms), 0) FROM source_positions)
FROM source_views, unnest($1::int[]) AS g (grown) ON CONFLICT DO NOTHING";

/// `held` are the positions that are as expected, and nobody else's until we are done; only when they are all there anything
/// happens. A client that is lost on the way does not hold them for ever.
///
/// Nobody waits for the disk: what a crash takes back it takes back with its positions, and the log still has it.
const FENCE: &str = "WITH filling AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true),
        set_config('idle_in_transaction_session_timeout', '10s', true), days_from
    FROM source_views WHERE generation = $1 FOR SHARE),
expected AS MATERIALIZED (SELECT * FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS e (\"partition\", at, next)),
held AS MATERIALIZED (
    SELECT p.\"partition\" FROM source_positions p JOIN expected e ON p.\"partition\" = e.\"partition\"
    WHERE p.next = e.at ORDER BY 1 FOR UPDATE OF p),
fence AS MATERIALIZED (SELECT days_from FROM filling WHERE (SELECT count(*) FROM held) = cardinality($2)),
moved AS (
    UPDATE source_positions p SET next = e.next, as_of_ms = greatest(p.as_of_ms, $8) FROM expected e, fence WHERE p.\"partition\" = e.\"partition\"),
marked AS (
    INSERT INTO source_marks AS m (writer, \"partition\", seq)
    SELECT m.* FROM fence, unnest($5::bigint[], $6::int[], $7::bigint[]) AS m
    ON CONFLICT (writer, \"partition\") DO UPDATE SET seq = greatest(m.seq, excluded.seq))
SELECT days_from FROM fence";

// Rows are written in the order of their keys, so that nobody waits in a circle.
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

/// A column of some rows.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// The question for the fence.
fn fence(advance: &Advance) -> QueryScalar<'_, Postgres, i64, PgArguments> {
    let after = |partition| advance.to.get(partition).copied().unwrap_or_default();
    sqlx::query_scalar(FENCE)
        .bind(&advance.generation)
        .bind(advance.from.keys().copied().collect::<Vec<Partition>>())
        .bind(advance.from.values().copied().collect::<Vec<_>>())
        .bind(advance.from.keys().map(after).collect::<Vec<Offset>>())
        .bind(advance.marks.keys().map(|(writer, _)| writer.0).collect::<Vec<_>>())
        .bind(advance.marks.keys().map(|(_, partition)| *partition).collect::<Vec<_>>())
        .bind(advance.marks.values().copied().collect::<Vec<_>>())
        .bind(advance.as_of.unwrap_or(0))
}

/// Adds the rows. `written` says which days have rows of their own by now.
async fn add(
    connection: &mut PgConnection,
    counts: &SourceCounts,
    written: impl Fn(Day) -> bool,
) -> Result<(), sqlx::Error> {
    let windows: Vec<_> = counts.windows.iter().collect();
    for rows in windows.chunks(ROWS) {
        let query = sqlx::query(WINDOWS)
            .bind(column(rows, |((source, _), _)| &**source))
            .bind(column(rows, |((_, window), _)| window.0))
            .bind(column(rows, |(_, span)| span.count))
            .bind(column(rows, |(_, span)| span.first))
            .bind(column(rows, |(_, span)| span.last));
        query.execute(&mut *connection).await?;
    }
    let days: Vec<_> = counts.days.iter().filter(|((_, day), _)| written(*day)).collect();
    for rows in days.chunks(ROWS) {
        let query = sqlx::query(DAYS)
            .bind(column(rows, |((source, _), _)| &**source))
            .bind(column(rows, |((_, day), _)| day.0))
            .bind(column(rows, |(_, count)| **count));
        query.execute(&mut *connection).await?;
    }
    let kinds: Vec<_> = counts.kinds.iter().collect();
    for rows in kinds.chunks(ROWS) {
        let query = sqlx::query(KINDS)
            .bind(column(rows, |((source, _), _)| &**source))
            .bind(column(rows, |((_, kind), _)| &**kind))
            .bind(column(rows, |(_, span)| span.count))
            .bind(column(rows, |(_, span)| span.first))
            .bind(column(rows, |(_, span)| span.last));
        query.execute(&mut *connection).await?;
    }
    let minutes: Vec<_> = counts.minutes.iter().collect();
    for rows in minutes.chunks(ROWS) {
        let query =
            sqlx::query(MINUTES).bind(column(rows, |(minute, _)| minute.0)).bind(column(rows, |(_, source)| &**source));
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

impl PostgresStore {
    /// Adds `counts` and moves the positions; false when they stand elsewhere. `windowed` are the days of which the windows are
    /// among the counts: any other day is too old to have any.
    pub(super) async fn advance(
        &self,
        advance: &Advance,
        counts: &SourceCounts,
        windowed: &BTreeSet<Day>,
    ) -> Result<bool, StoreError> {
        let mut held = self.writing.take().await?;
        // A promise is about all partitions, so all of them must have a row.
        let all = 0..advance.as_of.map_or(0, |_| Partition::try_from(advance.partitions).unwrap_or(Partition::MAX));
        let first = advance.from.iter().filter(|(_, at)| **at == 0).map(|(partition, _)| *partition);
        let grown: Vec<_> = first.chain(all).collect();
        let rows = counts.windows.len() + counts.days.len() + counts.kinds.len() + counts.minutes.len();
        let limit = self.timeout + ROW * u32::try_from(rows).unwrap_or(u32::MAX);
        let answer = timeout(limit, async {
            if !grown.is_empty() {
                sqlx::query(GROW).bind(grown).execute(held.connection()).await?;
            }
            let mut transaction = held.connection().begin().await?;
            let Some(days_from) = fence(advance).fetch_optional(&mut *transaction).await? else {
                transaction.rollback().await?;
                return Ok(false);
            };
            add(&mut transaction, counts, |day| day.0 < days_from || !windowed.contains(&day)).await?;
            transaction.commit().await?;
            Ok(true)
        });
        let answer = answer.await;
        Ok(held.finish(answer)?)
    }
}
