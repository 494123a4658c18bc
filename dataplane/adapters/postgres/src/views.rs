//! The views per source: their positions, rebuilding them, and retention.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use super::{
    PostgresStore,
    base::{add_dropped, copy_base},
    days::partition_name,
    row_sums::RowSums,
    segments::{insert, replace},
    view_audit::{add_sums, fill_unattributed},
};
use ping_core::{Day, Generation, Mark, Marks, Millis, Offset, Partition, Positions, RetentionCutoffs, Seq, WriterId};
use ping_ports::{Advance, Applied, SourceViews, StoreError, ViewPositions};
use ping_segments::{Family, Place, Segment, StoredSegment};

/// Limit of a rebuild, which reads every row.
const REBUILD_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Limit of creating or dropping partitions, which waits for readers.
const PARTITION_TIMEOUT: Duration = Duration::from_secs(30);
/// Stands for every partition of the log in `source_marks`.
const ALL_PARTITIONS: Partition = -1;
/// The table of windows.
const WINDOWS: &str = "source_windows";
/// Five-minute windows per day.
const WINDOWS_PER_DAY: i64 = 288;
/// Columns of a partition with a small statistics target: migration 1 says why. Partitions do not inherit it.
const SAMPLED_COLUMNS: [&str; 5] = ["source", "bucket", "count", "first_ms", "last_ms"];
/// Their statistics target; the default is 100.
const STATISTICS_TARGET: u32 = 10;

const POSITIONS: &str = "SELECT generation, unique_sources,
    ARRAY(SELECT \"partition\" FROM source_positions ORDER BY 1) AS partitions,
    ARRAY(SELECT next FROM source_positions ORDER BY \"partition\") AS offsets,
    ARRAY(SELECT writer FROM source_marks ORDER BY writer, \"partition\") AS writers,
    ARRAY(SELECT \"partition\" FROM source_marks ORDER BY writer, \"partition\") AS marked,
    ARRAY(SELECT seq FROM source_marks ORDER BY writer, \"partition\") AS seqs
FROM source_views";

/// Releases the locks of a client that is lost in the middle of its transaction.
pub(super) const IDLE_TIMEOUT: &str = "SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// The lock comes before the snapshot: by then every running `apply` has finished, and none can start.
pub(super) const REBUILD_BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
pub(super) const REBUILD_LOCK: &str = "LOCK TABLE source_views IN EXCLUSIVE MODE";
/// No rows are dropped until the end of the transaction. Waits until those that are being dropped are in the base.
const KEEP_EVENTS: &str = "LOCK TABLE event_retention IN SHARE MODE";
const CLEAR: [&str; 7] = [
    "DELETE FROM source_views",
    "DELETE FROM source_positions",
    "DELETE FROM source_marks",
    "DELETE FROM source_windows",
    "DELETE FROM source_past_days",
    "DELETE FROM source_segments",
    "DELETE FROM source_sums",
];
const FILL_WINDOWS: &str = "INSERT INTO source_windows (source, bucket, count, first_ms, last_ms)
SELECT source, timestamp_ms / 300000, count(*), min(timestamp_ms), max(timestamp_ms) FROM events
WHERE source IS NOT NULL AND timestamp_ms >= $1 GROUP BY 1, 2";
const FILL_DAYS: &str = "INSERT INTO source_past_days (source, day, count)
SELECT source, timestamp_ms / 86400000, count(*) FROM events
WHERE source IS NOT NULL AND timestamp_ms >= $1 AND timestamp_ms < $2 GROUP BY 1, 2";
const EVENTS: &str = "SELECT source, coalesce(kind, ''), timestamp_ms FROM events WHERE source IS NOT NULL";
/// Memory of the events that a rebuild sums at once, in bytes.
const REBUILD_BYTES: usize = 32 << 20;
const FILL_MARKS: &str =
    "INSERT INTO source_marks (writer, \"partition\", seq) SELECT id, $1, last_seq FROM writers WHERE id <> 0";
const FILL_POSITIONS: &str = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
SELECT p.*, floor(extract(epoch FROM now()) * 1000)::bigint FROM unnest($1::int[], $2::bigint[]) AS p";

/// A writer without a row was compacted; no event of it is still on its way.
const FORGET_MARKS: &str = "DELETE FROM source_marks m WHERE NOT EXISTS (SELECT FROM writers w WHERE w.id = m.writer)";
const DROP_SEGMENTS: &str = "DELETE FROM source_segments WHERE family = $1 AND period < $2";
const DROP_SUMS: &str = "DELETE FROM source_sums WHERE family = $1 AND period < $2";
const DROP_BASE: &str = "DELETE FROM source_base WHERE family = $1 AND period < $2";
const DROP_DAYS: &str = "DELETE FROM source_past_days WHERE day < $1";
const PARTITIONS: &str =
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'source_windows'::regclass";

struct PositionsRow {
    generation: Generation,
    unique_sources: bool,
    partitions: Vec<Partition>,
    offsets: Vec<Offset>,
    writers: Vec<i64>,
    marked: Vec<Partition>,
    seqs: Vec<Seq>,
}

ping_sql::from_row!(PositionsRow of sqlx::postgres::PgRow { generation, unique_sources, partitions, offsets, writers, marked, seqs });

impl PositionsRow {
    fn positions(self) -> ViewPositions {
        let mut marks = Marks::default();
        for ((writer, partition), seq) in self.writers.into_iter().zip(self.marked).zip(self.seqs) {
            let mark: &mut Mark = marks.0.entry(WriterId(writer)).or_default();
            if partition == ALL_PARTITIONS {
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

/// Days whose partition of `source_windows` is known to exist.
#[derive(Debug, Default)]
pub(super) struct KnownPartitions(Mutex<BTreeSet<Day>>);

/// The statement that creates a day's partition unless it exists.
fn create_partition(day: Day) -> Result<String, StoreError> {
    let (name, from) = (partition_name(WINDOWS, day)?, day.0 * WINDOWS_PER_DAY);
    let to = from + WINDOWS_PER_DAY;
    let statistics =
        SAMPLED_COLUMNS.map(|column| format!("ALTER {column} SET STATISTICS {STATISTICS_TARGET}")).join(", ");
    // Not `IF NOT EXISTS`: altering an existing partition again would wait for a vacuum of it.
    Ok(format!(
        "; DO $$ BEGIN IF to_regclass('{name}') IS NULL THEN
            CREATE TABLE {name} PARTITION OF source_windows FOR VALUES FROM ({from}) TO ({to}) WITH (fillfactor = 80);
            ALTER TABLE {name} {statistics};
        END IF; END $$"
    ))
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
        let result = timeout(PARTITION_TIMEOUT, create).await;
        connection.finish(result)?;
        self.known_partitions.0.lock().extend(missing);
        Ok(())
    }
}

/// Rebuilds all views in one transaction; false when another process has rebuilt them since `seen`.
async fn rebuild(
    connection: &mut PgConnection,
    seen: Option<&Generation>,
    new: &Generation,
    ends: &BTreeMap<Partition, Offset>,
    cutoffs: RetentionCutoffs,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with(REBUILD_BEGIN).await?;
    sqlx::raw_sql(IDLE_TIMEOUT).execute(&mut *transaction).await?;
    sqlx::raw_sql(KEEP_EVENTS).execute(&mut *transaction).await?;
    sqlx::raw_sql(REBUILD_LOCK).execute(&mut *transaction).await?;
    let held: Option<Generation> =
        sqlx::query_scalar("SELECT generation FROM source_views").fetch_optional(&mut *transaction).await?;
    if held.as_ref() != seen {
        return Ok(false);
    }
    for clear in CLEAR {
        sqlx::query(clear).execute(&mut *transaction).await?;
    }
    sqlx::query(FILL_WINDOWS).bind(cutoffs.windows.start()).execute(&mut *transaction).await?;
    sqlx::query(FILL_DAYS).bind(cutoffs.days.start()).bind(cutoffs.today.start()).execute(&mut *transaction).await?;
    fill_segments(&mut transaction, cutoffs).await?;
    sqlx::query(FILL_MARKS).bind(ALL_PARTITIONS).execute(&mut *transaction).await?;
    let (partitions, offsets): (Vec<Partition>, Vec<Offset>) = ends.iter().map(|(on, end)| (*on, *end)).unzip();
    sqlx::query(FILL_POSITIONS).bind(partitions).bind(offsets).execute(&mut *transaction).await?;
    let filled = sqlx::query(
        "INSERT INTO source_views (generation, unique_sources, days_from, built_at)
        VALUES ($1, $2, $3, now())",
    );
    filled.bind(new).bind(cutoffs.minutes.is_some()).bind(cutoffs.today.0).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Sums all events into segments, also those whose rows were dropped.
async fn fill_segments(connection: &mut PgConnection, cutoffs: RetentionCutoffs) -> Result<(), sqlx::Error> {
    let mut per_day = BTreeMap::new();
    let mut sums = RowSums::open(connection, EVENTS, REBUILD_BYTES).await?;
    while let Some(segments) = sums.next(connection, cutoffs, &mut per_day).await? {
        insert(connection, &segments).await?;
        add_sums(connection, &segments, ALL_PARTITIONS).await?;
    }
    copy_base(connection, cutoffs, ALL_PARTITIONS).await?;
    add_dropped(connection, &mut per_day).await?;
    fill_unattributed(connection, &per_day, ALL_PARTITIONS).await
}

/// Deletes what is older than `cutoffs`, and the partitions before `oldest`.
async fn drop_expired(
    connection: &mut PgConnection,
    cutoffs: RetentionCutoffs,
    oldest: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(FORGET_MARKS).execute(&mut *connection).await?;
    let minutes = cutoffs.minutes.map_or(i64::MAX, |first| first.0);
    for (family, first) in
        [(Family::Windows, cutoffs.windows.0), (Family::Days, cutoffs.days.0), (Family::Minutes, minutes)]
    {
        for drop in [DROP_SEGMENTS, DROP_SUMS, DROP_BASE] {
            sqlx::query(drop).bind(family.code()).bind(first).execute(&mut *connection).await?;
        }
    }
    sqlx::query(DROP_DAYS).bind(cutoffs.days.0).execute(&mut *connection).await?;
    let partitions: Vec<String> = sqlx::query_scalar(PARTITIONS).fetch_all(&mut *connection).await?;
    // Their names sort like their days.
    for expired in partitions.iter().filter(|partition| partition.as_str() < oldest) {
        sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE IF EXISTS {expired}"))).execute(&mut *connection).await?;
    }
    Ok(())
}

#[async_trait]
impl SourceViews for PostgresStore {
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let query = sqlx::query_as::<_, PositionsRow>(POSITIONS);
        let result = timeout(self.timeout, query.fetch_optional(connection.get_mut())).await;
        Ok(connection.finish(result)?.map(PositionsRow::positions))
    }

    async fn apply(&self, advance: &Advance, segments: &[Segment]) -> Result<Applied, StoreError> {
        let of_windows = segments.iter().filter(|segment| segment.place.family == Family::Windows);
        self.create_partitions(of_windows.map(|segment| Day(segment.place.period)).collect::<BTreeSet<_>>()).await?;
        match self.advance(advance, segments).await {
            Ok(true) => Ok(Applied::Done),
            Ok(false) => Ok(Applied::Stale("the views are at other positions".into())),
            Err(error) => {
                // A process whose clock is ahead may have dropped a partition.
                self.known_partitions.0.lock().clear();
                Err(error)
            }
        }
    }

    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        new: &Generation,
        ends: &BTreeMap<Partition, Offset>,
        cutoffs: RetentionCutoffs,
    ) -> Result<bool, StoreError> {
        // An event may be up to a day in the future.
        self.create_partitions((cutoffs.windows.0..=cutoffs.today.0 + 2).map(Day)).await?;
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(REBUILD_TIMEOUT, rebuild(connection.get_mut(), seen, new, ends, cutoffs)).await;
        Ok(connection.finish(result)?)
    }

    async fn apply_retention(&self, cutoffs: RetentionCutoffs) -> Result<(), StoreError> {
        let oldest = partition_name(WINDOWS, cutoffs.windows)?;
        let mut pooled = self.write_pool.acquire().await?;
        let result = timeout(PARTITION_TIMEOUT, drop_expired(pooled.get_mut(), cutoffs, &oldest)).await;
        pooled.finish(result)?;
        self.known_partitions.0.lock().retain(|day| *day >= cutoffs.windows);
        Ok(())
    }

    async fn full_places(&self, fan_in: usize, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.select_full(fan_in, limit).await
    }

    async fn segments_at(&self, places: &[Place], limit: usize) -> Result<Vec<StoredSegment>, StoreError> {
        self.select_at(places, limit).await
    }

    async fn replace(&self, generation: &Generation, merged: &[i64], sums: &[Segment]) -> Result<bool, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(PARTITION_TIMEOUT, replace(connection.get_mut(), generation, merged, sums)).await;
        Ok(connection.finish(result)?)
    }

    async fn export_rows(&self, now: Millis) -> Result<(), StoreError> {
        self.export(now).await
    }
}
