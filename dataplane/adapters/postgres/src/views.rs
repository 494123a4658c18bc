//! The views per source: their positions, rebuilding them, and retention.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{
    PostgresStore,
    base::{add_dropped, copy_base},
    connections::TimedResult,
    row_sums::RowSums,
    segments::{insert, replace},
    view_audit::{add_sums, fill_unattributed},
    window_partitions::drop_partitions,
};
use ping_core::{
    Day, Generation, Mark, Marks, Millis, Offset, Partition, Positions, RetentionCutoffs, Seq, Window, WriterId,
};
use ping_ports::{Advance, Applied, SourceViews, StoreError, ViewPositions};
use ping_segments::{Family, Place, Segment, StoredSegment};

/// Limit of one step of a rebuild. A rebuild reads every row, and may take as long as that.
const REBUILD_STEP_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Limit of a merge, and of deleting what expired.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Stands for every partition of the log in `source_marks`.
const ALL_PARTITIONS: Partition = -1;

const POSITIONS: &str = "SELECT generation, unique_sources,
    ARRAY(SELECT \"partition\" FROM source_positions ORDER BY 1) AS partitions,
    ARRAY(SELECT next FROM source_positions ORDER BY \"partition\") AS offsets,
    ARRAY(SELECT writer FROM source_marks ORDER BY writer, \"partition\") AS writers,
    ARRAY(SELECT \"partition\" FROM source_marks ORDER BY writer, \"partition\") AS marked,
    ARRAY(SELECT seq FROM source_marks ORDER BY writer, \"partition\") AS seqs
FROM source_views";

/// Releases the locks of a client that is lost in the middle of its transaction.
pub(super) const IDLE_TIMEOUT: &str = "SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// A rebuild waits for locks. Postgres notices within a second that its client has left, also in the middle of a statement.
const REBUILD_SETTINGS: &str = "SET LOCAL lock_timeout = 0; SET LOCAL client_connection_check_interval = '1s'";
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
const EVENTS: &str = "SELECT source, coalesce(kind, ''), timestamp_ms FROM events WHERE source IS NOT NULL";
/// Memory of the events that a rebuild sums at once, in bytes.
const REBUILD_BYTES: usize = 32 << 20;
const FILL_MARKS: &str =
    "INSERT INTO source_marks (writer, \"partition\", seq) SELECT id, $1, last_seq FROM writers WHERE id <> 0";
const FILL_POSITIONS: &str = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
SELECT p.*, floor(extract(epoch FROM now()) * 1000)::bigint FROM unnest($1::int[], $2::bigint[]) AS p";

/// $1 generation, $2 whether it holds unique sources, $3 today, $4 the number of windows in a day. Rows for SQL are exported later, from the
/// first day on.
const FILL_VIEWS: &str = "INSERT INTO source_views (generation, unique_sources, days_from, rows_until, built_at)
SELECT $1, $2, least(first, $3), CASE WHEN first IS NULL THEN 9223372036854775807 ELSE least(first, $3) * $4 END, now()
FROM (SELECT min(period) AS first FROM source_sums WHERE family IN (1, 2)) AS kept";

/// A writer without a row was compacted; no event of it is still on its way.
const FORGET_MARKS: &str = "DELETE FROM source_marks m WHERE NOT EXISTS (SELECT FROM writers w WHERE w.id = m.writer)";
const DROP_SEGMENTS: &str = "DELETE FROM source_segments WHERE family = $1 AND period < $2";
const DROP_SUMS: &str = "DELETE FROM source_sums WHERE family = $1 AND period < $2";
const DROP_BASE: &str = "DELETE FROM source_base WHERE family = $1 AND period < $2";
const DROP_DAYS: &str = "DELETE FROM source_past_days WHERE day < $1";

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

/// Rebuilds all views in one transaction, without the rows for SQL; false when another process has rebuilt them since `seen`. Counts its steps.
async fn rebuild(
    connection: &mut PgConnection,
    seen: Option<&Generation>,
    new: &Generation,
    ends: &BTreeMap<Partition, Offset>,
    cutoffs: RetentionCutoffs,
    steps: &AtomicU64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with(REBUILD_BEGIN).await?;
    sqlx::raw_sql(IDLE_TIMEOUT).execute(&mut *transaction).await?;
    sqlx::raw_sql(REBUILD_SETTINGS).execute(&mut *transaction).await?;
    sqlx::raw_sql(KEEP_EVENTS).execute(&mut *transaction).await?;
    sqlx::raw_sql(REBUILD_LOCK).execute(&mut *transaction).await?;
    let held: Option<Generation> =
        sqlx::query_scalar("SELECT generation FROM source_views").fetch_optional(&mut *transaction).await?;
    if held.as_ref() != seen {
        return Ok(false);
    }
    for clear in CLEAR {
        sqlx::query(clear).execute(&mut *transaction).await?;
        steps.fetch_add(1, Ordering::Relaxed);
    }
    fill_segments(&mut transaction, cutoffs, steps).await?;
    sqlx::query(FILL_MARKS).bind(ALL_PARTITIONS).execute(&mut *transaction).await?;
    let (partitions, offsets): (Vec<Partition>, Vec<Offset>) = ends.iter().map(|(on, end)| (*on, *end)).unzip();
    sqlx::query(FILL_POSITIONS).bind(partitions).bind(offsets).execute(&mut *transaction).await?;
    let fill_views = sqlx::query(FILL_VIEWS).bind(new).bind(cutoffs.minutes.is_some()).bind(cutoffs.today.0);
    fill_views.bind(Window::PER_DAY).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Sums all events into segments, also those whose rows were dropped.
async fn fill_segments(
    connection: &mut PgConnection,
    cutoffs: RetentionCutoffs,
    steps: &AtomicU64,
) -> Result<(), sqlx::Error> {
    let mut per_day = BTreeMap::new();
    let mut sums = RowSums::open(connection, EVENTS, REBUILD_BYTES).await?;
    while let Some(segments) = sums.next(connection, cutoffs, &mut per_day).await? {
        insert(connection, &segments).await?;
        add_sums(connection, &segments, ALL_PARTITIONS).await?;
        steps.fetch_add(1, Ordering::Relaxed);
    }
    copy_base(connection, cutoffs, ALL_PARTITIONS).await?;
    add_dropped(connection, &mut per_day).await?;
    fill_unattributed(connection, &per_day, ALL_PARTITIONS).await
}

/// The result of `work`, unless `steps` stays the same for as long as `limit`.
async fn unless_stalled<T>(
    steps: &AtomicU64,
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> TimedResult<T> {
    let mut work = pin!(work);
    loop {
        let before = steps.load(Ordering::Relaxed);
        match timeout(limit, &mut work).await {
            Err(_) if steps.load(Ordering::Relaxed) != before => {}
            result => return result,
        }
    }
}

/// Deletes what is older than `cutoffs`.
async fn drop_expired(connection: &mut PgConnection, cutoffs: RetentionCutoffs) -> Result<(), sqlx::Error> {
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
    drop_partitions(connection, cutoffs.windows).await
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
                self.known_partitions.clear();
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
        let (mut connection, steps) = (self.write_pool.acquire().await?, AtomicU64::new(0));
        let rebuild = rebuild(connection.get_mut(), seen, new, ends, cutoffs, &steps);
        let result = unless_stalled(&steps, REBUILD_STEP_TIMEOUT, rebuild).await;
        Ok(connection.finish(result)?)
    }

    async fn apply_retention(&self, cutoffs: RetentionCutoffs) -> Result<(), StoreError> {
        let mut pooled = self.write_pool.acquire().await?;
        let result = timeout(MAINTENANCE_TIMEOUT, drop_expired(pooled.get_mut(), cutoffs)).await;
        self.known_partitions.forget_before(cutoffs.windows);
        Ok(pooled.finish(result)?)
    }

    async fn full_places(&self, fan_in: usize, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.select_full(fan_in, limit).await
    }

    async fn segments_at(&self, places: &[Place], limit: usize) -> Result<Vec<StoredSegment>, StoreError> {
        self.select_at(places, limit).await
    }

    async fn replace(&self, generation: &Generation, merged: &[i64], sums: &[Segment]) -> Result<bool, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(MAINTENANCE_TIMEOUT, replace(connection.get_mut(), generation, merged, sums)).await;
        Ok(connection.finish(result)?)
    }

    async fn export_rows(&self, now: Millis) -> Result<(), StoreError> {
        self.export(now).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Takes `count` steps of `each`, and then `last`.
    async fn work(steps: &AtomicU64, count: u32, each: Duration, last: Duration) -> TimedResult<u32> {
        let work = async {
            for _ in 0..count {
                sleep(each).await;
                steps.fetch_add(1, Ordering::Relaxed);
            }
            sleep(last).await;
            Ok(count)
        };
        unless_stalled(steps, LIMIT, work).await
    }

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_as_long_as_it_takes_steps() {
        let done = work(&AtomicU64::new(0), 100, LIMIT * 9 / 10, Duration::ZERO).await;
        assert!(matches!(done, Ok(Ok(100))), "{done:?}");
        let stalled = work(&AtomicU64::new(0), 3, LIMIT * 9 / 10, LIMIT * 3).await;
        assert!(stalled.is_err(), "{stalled:?}");
    }
}
