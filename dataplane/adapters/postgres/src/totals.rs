//! Reading totals. Each answer is one statement, so everything in it is of one snapshot, taken after its `now()`.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::FromRow;
use tokio::time::timeout;

use super::{PostgresStore, millis};
use ping_core::{Millis, Minute, Seq, TimeRange, WriterId};
use ping_ports::{Recount, Snapshot, StoreError, TotalsStore, WriterTotal};

/// For statements that read or move much.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
/// For counting every row.
const RECOUNT: Duration = Duration::from_secs(30 * 60);

const TOTAL: &str = "SELECT coalesce(sum(total), 0)::bigint FROM writers";

const RANGE: &str = "SELECT (
    coalesce((SELECT sum(n) FROM unnest($1::bigint[], $2::bigint[]) AS piece (a, b), LATERAL (
        SELECT sum(count) AS n FROM millisecond_counts WHERE timestamp_ms >= a AND timestamp_ms < b) AS edge), 0)
    + coalesce((SELECT sum(n) FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS piece (width, a, b), LATERAL (
        SELECT sum(count) AS n FROM rollups WHERE width_minutes = width AND bucket >= a AND bucket < b) AS middle), 0)
)::bigint";

/// Minutes that were touched are looked for among all of them, when they are asked for: at a rebuild.
const SNAPSHOT: &str = "WITH wanted AS (
    SELECT bucket, sum(count)::bigint AS n FROM rollups WHERE width_minutes = 1 AND bucket >= $1 GROUP BY bucket
    UNION ALL
    SELECT bucket, sum(count)::bigint FROM rollups WHERE width_minutes = 1 AND bucket < $1 AND $2 > 0
    GROUP BY bucket HAVING max(touched_at) >= now() - $2 * interval '1 ms'),
live AS (SELECT id, last_seq FROM writers WHERE id <> 0)
SELECT floor(extract(epoch FROM now()) * 1000)::bigint AS at,
    (SELECT coalesce(sum(total), 0)::bigint FROM writers) AS total,
    ARRAY(SELECT bucket FROM wanted ORDER BY bucket) AS minutes,
    ARRAY(SELECT n FROM wanted ORDER BY bucket) AS counts,
    ARRAY(SELECT id FROM live ORDER BY id) AS writers,
    ARRAY(SELECT last_seq FROM live ORDER BY id) AS seqs";

const RECOUNT_ALL: &str = "WITH counted AS MATERIALIZED (
    SELECT timestamp_ms / 60000 AS minute, count(*) AS n FROM events GROUP BY 1),
rolled AS MATERIALIZED (
    SELECT bucket AS minute, sum(count) AS n FROM rollups WHERE width_minutes = 1 GROUP BY 1),
fine AS MATERIALIZED (
    SELECT timestamp_ms / 60000 AS minute, sum(count) AS n FROM millisecond_counts GROUP BY 1)
SELECT (SELECT coalesce(sum(n), 0)::bigint FROM counted) AS rows,
    (SELECT coalesce(sum(total), 0)::bigint FROM writers) AS total,
    (SELECT coalesce(sum(n), 0)::bigint FROM rolled) AS minutes_total,
    (SELECT coalesce(sum(count), 0)::bigint FROM rollups WHERE width_minutes = 1440) AS days_total,
    ARRAY(SELECT minute FROM counted FULL JOIN rolled USING (minute) FULL JOIN fine USING (minute)
        WHERE coalesce(counted.n, 0) <> coalesce(rolled.n, 0) OR coalesce(counted.n, 0) <> coalesce(fine.n, 0) ORDER BY minute LIMIT 100) AS differing";

/// Row 0's lock lets one server compact_writers at a time; the others find nothing to do.
const FOLD: &str = "WITH compact_writers AS MATERIALIZED (SELECT id FROM writers WHERE id = 0 FOR UPDATE SKIP LOCKED),
old AS MATERIALIZED (
    SELECT w.id, w.total FROM compact_writers, writers w
    WHERE NOT w.open AND w.id <> 0 AND w.closed_at < now() - $1 * interval '1 ms'
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.writer = w.id)
    FOR UPDATE OF w SKIP LOCKED),
taken AS (
    DELETE FROM rollups r USING old WHERE r.writer = old.id
    RETURNING r.width_minutes, r.bucket, r.count, r.touched_at),
merged AS (
    INSERT INTO rollups AS r (width_minutes, bucket, writer, count, touched_at)
    SELECT width_minutes, bucket, 0, sum(count)::bigint, max(touched_at) FROM taken GROUP BY 1, 2
    ON CONFLICT (width_minutes, bucket, writer)
    DO UPDATE SET count = r.count + excluded.count, touched_at = greatest(r.touched_at, excluded.touched_at)),
forgotten AS (DELETE FROM published p USING old WHERE p.writer = old.id),
gone AS (DELETE FROM writers w USING old WHERE w.id = old.id),
moved AS (UPDATE writers w SET total = w.total + (SELECT coalesce(sum(total), 0) FROM old) FROM compact_writers WHERE w.id = compact_writers.id)
SELECT id FROM old ORDER BY id";

#[derive(FromRow)]
struct SnapshotRow {
    at: Millis,
    total: i64,
    minutes: Vec<i64>,
    counts: Vec<i64>,
    writers: Vec<i64>,
    seqs: Vec<Seq>,
}

#[derive(FromRow)]
struct RecountRow {
    rows: i64,
    total: i64,
    minutes_total: i64,
    days_total: i64,
    differing: Vec<i64>,
}

#[async_trait]
impl TotalsStore for PostgresStore {
    async fn count(&self, range: Option<TimeRange>) -> Result<i64, StoreError> {
        let query = match range {
            None => sqlx::query_scalar(TOTAL),
            Some(range) => {
                let split = range.split();
                let (from, to): (Vec<_>, Vec<_>) = split.rows.into_iter().unzip();
                let minutes = split.minutes.into_iter().map(|piece| (1, piece));
                let pieces = minutes.chain(split.days.into_iter().map(|piece| (1440, piece)));
                let (widths, pieces): (Vec<i32>, Vec<_>) = pieces.unzip();
                let (first, last): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
                sqlx::query_scalar(RANGE).bind(from).bind(to).bind(widths).bind(first).bind(last)
            }
        };
        let mut held = self.reading.take().await?;
        let answer = timeout(self.timeout, query.fetch_one(held.connection())).await;
        Ok(held.finish(answer)?)
    }

    async fn snapshot(&self, since: Minute, touched: Duration) -> Result<Snapshot, StoreError> {
        let mut held = self.reading.take().await?;
        let query = sqlx::query_as::<_, SnapshotRow>(SNAPSHOT).bind(since.0).bind(millis(touched));
        let answer = timeout(TIMEOUT, query.fetch_one(held.connection())).await;
        let row = held.finish(answer)?;
        let writers = row.writers.into_iter().zip(row.seqs);
        Ok(Snapshot {
            at: row.at,
            total: row.total,
            minutes: row.minutes.into_iter().map(Minute).zip(row.counts).collect(),
            writers: writers.map(|(id, last_seq)| WriterTotal { writer: WriterId(id), last_seq }).collect(),
        })
    }

    async fn recount(&self) -> Result<Recount, StoreError> {
        let mut held = self.reading.take().await?;
        let query = sqlx::query_as::<_, RecountRow>(RECOUNT_ALL);
        let answer = timeout(RECOUNT, query.fetch_one(held.connection())).await;
        let row = held.finish(answer)?;
        Ok(Recount {
            rows: row.rows,
            total: row.total,
            minutes_total: row.minutes_total,
            days_total: row.days_total,
            differing_minutes: row.differing.into_iter().map(Minute).collect(),
        })
    }

    async fn compact_writers(&self, age: Duration) -> Result<Vec<WriterId>, StoreError> {
        let mut held = self.reading.take().await?;
        let query = sqlx::query_scalar(FOLD).bind(millis(age));
        let answer = timeout(TIMEOUT, query.fetch_all(held.connection())).await;
        Ok(held.finish(answer)?.into_iter().map(WriterId).collect())
    }
}
