//! The views per source: where they stand, making them anew, and what goes when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection};
use tokio::time::timeout;

use super::PostgresStore;
use ping_core::{
    Day, Generation, Mark, Marks, Offset, Partition, Positions, RetentionCutoffs, Seq, SourceCounts, WriterId,
};
use ping_ports::{Advance, Applied, SourceViews, StoreError, ViewPositions};

/// Reading every row may take this long.
const REBUILD: Duration = Duration::from_secs(60 * 60);
/// Making or dropping a partition waits for whoever reads.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Stands for every partition of the log in `source_marks`.
const ALL: Partition = -1;
/// Windows of a day.
const WINDOWS: i64 = 288;
/// Columns of a partition, and how large a sample of them is taken to plan by. Migration 6 says why; partitions don't inherit it.
const SAMPLED: [&str; 5] = ["source", "bucket", "count", "first_ms", "last_ms"];
const SAMPLE: u32 = 10;

const POSITIONS: &str = "SELECT generation, unique_sources,
    ARRAY(SELECT \"partition\" FROM source_positions ORDER BY 1) AS partitions,
    ARRAY(SELECT next FROM source_positions ORDER BY \"partition\") AS offsets,
    ARRAY(SELECT writer FROM source_marks ORDER BY writer, \"partition\") AS writers,
    ARRAY(SELECT \"partition\" FROM source_marks ORDER BY writer, \"partition\") AS marked,
    ARRAY(SELECT seq FROM source_marks ORDER BY writer, \"partition\") AS seqs
FROM source_views";

/// Without it a client that is lost in a transaction would hold its locks for ever.
const ABANDONED: &str = "SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// The lock before the first look: who applies is done by then, and nobody begins.
const REBUILD_BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
const REBUILD_LOCK: &str = "LOCK TABLE source_views IN EXCLUSIVE MODE";
const CLEAR: [&str; 7] = [
    "DELETE FROM source_views",
    "DELETE FROM source_positions",
    "DELETE FROM source_marks",
    "DELETE FROM source_windows",
    "DELETE FROM source_past_days",
    "DELETE FROM source_kinds",
    "DELETE FROM source_minutes",
];
const FILL_WINDOWS: &str = "INSERT INTO source_windows (source, bucket, count, first_ms, last_ms)
SELECT source, timestamp_ms / 300000, count(*), min(timestamp_ms), max(timestamp_ms) FROM events
WHERE source IS NOT NULL AND timestamp_ms >= $1 GROUP BY 1, 2";
const FILL_DAYS: &str = "INSERT INTO source_past_days (source, day, count)
SELECT source, timestamp_ms / 86400000, count(*) FROM events
WHERE source IS NOT NULL AND timestamp_ms >= $1 AND timestamp_ms < $2 GROUP BY 1, 2";
const FILL_KINDS: &str = "INSERT INTO source_kinds (source, kind, count, first_ms, last_ms)
SELECT source, coalesce(kind, ''), count(*), min(timestamp_ms), max(timestamp_ms) FROM events
WHERE source IS NOT NULL GROUP BY 1, 2";
const FILL_MINUTES: &str = "INSERT INTO source_minutes (minute, source)
SELECT DISTINCT timestamp_ms / 60000, source FROM events WHERE source IS NOT NULL AND timestamp_ms >= $1";
const FILL_MARKS: &str =
    "INSERT INTO source_marks (writer, \"partition\", seq) SELECT id, $1, last_seq FROM writers WHERE id <> 0";
const FILL_POSITIONS: &str = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
SELECT p.*, floor(extract(epoch FROM now()) * 1000)::bigint FROM unnest($1::int[], $2::bigint[]) AS p";

/// Nobody adds anything between the lock and the end: a window is in its day's row or still counts itself, never both.
const CLOSE_LOCK: &str = "SELECT days_from FROM source_views WHERE days_from < $1 FOR UPDATE";
const CLOSE_DAYS: &str = "INSERT INTO source_past_days AS d (source, day, count)
SELECT source, bucket / 288, sum(count)::bigint FROM source_windows WHERE bucket >= $1 * 288 AND bucket < $2 * 288
GROUP BY 1, 2 ORDER BY 1, 2 ON CONFLICT (source, day) DO UPDATE SET count = d.count + excluded.count";
const CLOSED: &str = "UPDATE source_views SET days_from = $1";

/// A writer that was compacted long ago has nothing on its way.
const FORGET: &str = "DELETE FROM source_marks m WHERE NOT EXISTS (SELECT FROM writers w WHERE w.id = m.writer)";
const DROP_MINUTES: &str = "DELETE FROM source_minutes WHERE minute < $1";
const DROP_DAYS: &str = "DELETE FROM source_past_days WHERE day < $1";
const PARTITIONS: &str =
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'source_windows'::regclass";

#[derive(FromRow)]
struct PositionsRow {
    generation: Generation,
    unique_sources: bool,
    partitions: Vec<Partition>,
    offsets: Vec<Offset>,
    writers: Vec<i64>,
    marked: Vec<Partition>,
    seqs: Vec<Seq>,
}

impl PositionsRow {
    fn positions(self) -> ViewPositions {
        let mut marks = Marks::default();
        for ((writer, partition), seq) in self.writers.into_iter().zip(self.marked).zip(self.seqs) {
            let mark: &mut Mark = marks.0.entry(WriterId(writer)).or_default();
            if partition == ALL {
                mark.base = seq;
            } else {
                mark.partitions.insert(partition, seq);
            }
        }
        let offsets = self.partitions.into_iter().zip(self.offsets).collect();
        let positions = Positions { generation: self.generation, offsets, marks };
        ViewPositions { positions, unique_sources: self.unique_sources }
    }
}

/// Days whose partition is known to be there.
#[derive(Debug, Default)]
pub(super) struct KnownPartitions(Mutex<BTreeSet<Day>>);

/// The partition of a day: `source_windows_20241014`.
fn name(day: Day) -> String {
    // What is no time of jiff's is no day of an event's.
    let start = Timestamp::from_millisecond(day.start()).unwrap_or_default();
    format!("source_windows_{}", start.strftime("%Y%m%d"))
}

impl PostgresStore {
    /// Makes the partitions of `days` that are not there.
    async fn cover(&self, days: impl IntoIterator<Item = Day>) -> Result<(), StoreError> {
        let missing: Vec<_> = {
            let covered = self.covered.0.lock();
            days.into_iter().filter(|day| !covered.contains(day)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let make = |day: &Day| {
            let (name, from) = (name(*day), day.0 * WINDOWS);
            let to = from + WINDOWS;
            let samples = SAMPLED.map(|column| format!("ALTER {column} SET STATISTICS {SAMPLE}")).join(", ");
            // Not `IF NOT EXISTS`: what is there is not altered again, which would wait for whoever vacuums it.
            format!(
                "; DO $$ BEGIN IF to_regclass('{name}') IS NULL THEN
                    CREATE TABLE {name} PARTITION OF source_windows FOR VALUES FROM ({from}) TO ({to}) WITH (fillfactor = 80);
                    ALTER TABLE {name} {samples};
                END IF; END $$"
            )
        };
        // One at a time: two that make the same table at once would be in each other's way.
        let lock = "SELECT pg_advisory_xact_lock(hashtext('source_windows'))".to_owned();
        let sql: String = std::iter::once(lock).chain(missing.iter().map(make)).collect();
        let mut held = self.writing.take().await?;
        let answer = timeout(TIMEOUT, sqlx::raw_sql(AssertSqlSafe(sql)).execute(held.connection())).await;
        held.finish(answer)?;
        self.covered.0.lock().extend(missing);
        Ok(())
    }
}

/// Everything anew, in one transaction; false when somebody else was faster.
async fn rebuild(
    connection: &mut PgConnection,
    seen: Option<&Generation>,
    new: &Generation,
    ends: &BTreeMap<Partition, Offset>,
    kept: RetentionCutoffs,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with(REBUILD_BEGIN).await?;
    sqlx::raw_sql(ABANDONED).execute(&mut *transaction).await?;
    sqlx::raw_sql(REBUILD_LOCK).execute(&mut *transaction).await?;
    let held: Option<Generation> =
        sqlx::query_scalar("SELECT generation FROM source_views").fetch_optional(&mut *transaction).await?;
    if held.as_ref() != seen {
        return Ok(false);
    }
    for clear in CLEAR {
        sqlx::query(clear).execute(&mut *transaction).await?;
    }
    sqlx::query(FILL_WINDOWS).bind(kept.windows.start()).execute(&mut *transaction).await?;
    sqlx::query(FILL_DAYS).bind(kept.days.start()).bind(kept.today.start()).execute(&mut *transaction).await?;
    sqlx::query(FILL_KINDS).execute(&mut *transaction).await?;
    if let Some(first) = kept.minutes {
        sqlx::query(FILL_MINUTES).bind(first.start()).execute(&mut *transaction).await?;
    }
    sqlx::query(FILL_MARKS).bind(ALL).execute(&mut *transaction).await?;
    let (partitions, offsets): (Vec<Partition>, Vec<Offset>) = ends.iter().map(|(on, end)| (*on, *end)).unzip();
    sqlx::query(FILL_POSITIONS).bind(partitions).bind(offsets).execute(&mut *transaction).await?;
    let filled = sqlx::query("INSERT INTO source_views (generation, unique_sources, days_from) VALUES ($1, $2, $3)");
    filled.bind(new).bind(kept.minutes.is_some()).bind(kept.today.0).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Gives the days that are over rows of their own, whoever is first.
async fn close_days(connection: &mut PgConnection, kept: RetentionCutoffs) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(ABANDONED).execute(&mut *transaction).await?;
    let from: Option<i64> = sqlx::query_scalar(CLOSE_LOCK).bind(kept.today.0).fetch_optional(&mut *transaction).await?;
    if let Some(from) = from {
        let close = sqlx::query(CLOSE_DAYS).bind(from.max(kept.days.0)).bind(kept.today.0);
        close.execute(&mut *transaction).await?;
        sqlx::query(CLOSED).bind(kept.today.0).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

#[async_trait]
impl SourceViews for PostgresStore {
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError> {
        let mut held = self.writing.take().await?;
        let query = sqlx::query_as::<_, PositionsRow>(POSITIONS);
        let answer = timeout(self.timeout, query.fetch_optional(held.connection())).await;
        Ok(held.finish(answer)?.map(PositionsRow::positions))
    }

    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError> {
        let windowed: BTreeSet<_> = counts.windows.keys().map(|(_, window)| window.day()).collect();
        self.cover(windowed.iter().copied()).await?;
        match self.advance(advance, counts, &windowed).await {
            Ok(true) => Ok(Applied::Done),
            Ok(false) => Ok(Applied::Stale("the views stand elsewhere".into())),
            Err(error) => {
                // A partition may have been dropped by somebody whose clock is ahead.
                self.covered.0.lock().clear();
                Err(error)
            }
        }
    }

    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        new: &Generation,
        ends: &BTreeMap<Partition, Offset>,
        kept: RetentionCutoffs,
    ) -> Result<bool, StoreError> {
        // An event may be a day ahead of us.
        self.cover((kept.windows.0..=kept.today.0 + 2).map(Day)).await?;
        let mut held = self.writing.take().await?;
        let answer = timeout(REBUILD, rebuild(held.connection(), seen, new, ends, kept)).await;
        Ok(held.finish(answer)?)
    }

    async fn apply_retention(&self, kept: RetentionCutoffs) -> Result<(), StoreError> {
        let mut held = self.writing.take().await?;
        let answer = timeout(REBUILD, close_days(held.connection(), kept)).await;
        held.finish(answer)?;
        let mut held = self.writing.take().await?;
        let oldest = name(kept.windows);
        let answer = timeout(TIMEOUT, async {
            let connection = held.connection();
            sqlx::query(FORGET).execute(&mut *connection).await?;
            sqlx::query(DROP_MINUTES).bind(kept.minutes.map_or(0, |first| first.0)).execute(&mut *connection).await?;
            sqlx::query(DROP_DAYS).bind(kept.days.0).execute(&mut *connection).await?;
            let partitions: Vec<String> = sqlx::query_scalar(PARTITIONS).fetch_all(&mut *connection).await?;
            // Their names are in the order of their days.
            for old in partitions.into_iter().filter(|partition| *partition < oldest) {
                sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE IF EXISTS {old}"))).execute(&mut *connection).await?;
            }
            Ok(())
        });
        let answer = answer.await;
        held.finish(answer)?;
        self.covered.0.lock().retain(|day| *day >= kept.windows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ping_core::Window;

    #[test]
    fn a_days_partition_is_named_after_it() {
        assert_eq!(name(Window::of(1_728_926_331_000).day()), "source_windows_20241014");
    }
}
