//! Reading totals, each answer from one look.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite};

use super::{SqliteStore, failed, millis, turn};
use ping_core::{Millis, Minute, Seq, TimeRange, WriterId};
use ping_ports::{Recount, Snapshot, StoreError, TotalsStore, WriterTotal};

const TOTAL: &str = "SELECT coalesce(sum(total), 0) FROM writers";
/// Minutes that were touched are looked for among all of them, when they are asked for: at a rebuild.
const WANTED: &str = "SELECT bucket, count FROM rollups WHERE width_minutes = 1 AND bucket >= $1
UNION ALL SELECT bucket, count FROM rollups WHERE $2 AND width_minutes = 1 AND bucket < $1 AND touched_ms >= $3";
const WRITERS: &str = "SELECT id, last_seq FROM writers WHERE id <> 0";

const SUMS: &str = "SELECT (SELECT count(*) FROM events), (SELECT coalesce(sum(total), 0) FROM writers),
    (SELECT coalesce(sum(count), 0) FROM rollups WHERE width_minutes = 1),
    (SELECT coalesce(sum(count), 0) FROM rollups WHERE width_minutes = 1440)";
const DIFFERING: &str = "WITH counted AS (SELECT timestamp_ms / 60000 AS minute, count(*) AS n FROM events GROUP BY 1),
rolled AS (SELECT bucket AS minute, count AS n FROM rollups WHERE width_minutes = 1),
fine AS (SELECT timestamp_ms / 60000 AS minute, sum(count) AS n FROM millisecond_counts GROUP BY 1),
minutes AS (SELECT minute FROM counted UNION SELECT minute FROM rolled UNION SELECT minute FROM fine)
SELECT minute FROM minutes
    LEFT JOIN counted USING (minute) LEFT JOIN rolled USING (minute) LEFT JOIN fine USING (minute)
WHERE coalesce(counted.n, 0) <> coalesce(rolled.n, 0) OR coalesce(counted.n, 0) <> coalesce(fine.n, 0)
ORDER BY minute LIMIT 100";

const OLD: &str = "SELECT id FROM writers w WHERE NOT open AND id <> 0 AND closed_ms < $1
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.writer = w.id) ORDER BY id";
const FOLD: &str = "UPDATE writers SET total = total + (SELECT total FROM writers WHERE id = $1) WHERE id = 0";

#[async_trait]
impl TotalsStore for SqliteStore {
    async fn count(&self, range: Option<TimeRange>) -> Result<i64, StoreError> {
        let Some(range) = range else {
            return sqlx::query_scalar(TOTAL).fetch_one(&self.readers).await.map_err(failed);
        };
        let split = range.split();
        let mut query = QueryBuilder::<Sqlite>::new("SELECT 0");
        for (from, to) in split.rows {
            query
                .push(" + (SELECT coalesce(sum(count), 0) FROM millisecond_counts WHERE timestamp_ms >= ")
                .push_bind(from);
            query.push(" AND timestamp_ms < ").push_bind(to).push(")");
        }
        let minutes = split.minutes.into_iter().map(|piece| (1, piece));
        for (width, (from, to)) in minutes.chain(split.days.into_iter().map(|piece| (1440, piece))) {
            query.push(" + (SELECT coalesce(sum(count), 0) FROM rollups WHERE width_minutes = ").push_bind(width);
            query.push(" AND bucket >= ").push_bind(from).push(" AND bucket < ").push_bind(to).push(")");
        }
        query.build_query_scalar().fetch_one(&self.readers).await.map_err(failed)
    }

    async fn snapshot(&self, since: Minute, touched: Duration) -> Result<Snapshot, StoreError> {
        let (at, mut look) = self.look().await?;
        let touched_since = at.saturating_sub(millis(touched));
        let total = sqlx::query_scalar(TOTAL).fetch_one(&mut *look).await.map_err(failed)?;
        let wanted = sqlx::query_as::<_, (i64, i64)>(WANTED).bind(since.0).bind(!touched.is_zero()).bind(touched_since);
        let wanted = wanted.fetch_all(&mut *look).await.map_err(failed)?;
        let writers = sqlx::query_as::<_, (i64, Seq)>(WRITERS).fetch_all(&mut *look).await.map_err(failed)?;
        let writer = |(id, last_seq)| WriterTotal { writer: WriterId(id), last_seq };
        Ok(Snapshot {
            at,
            total,
            minutes: wanted.into_iter().map(|(bucket, count)| (Minute(bucket), count)).collect(),
            writers: writers.into_iter().map(writer).collect(),
        })
    }

    async fn recount(&self) -> Result<Recount, StoreError> {
        let (_, mut look) = self.look().await?;
        let sums = sqlx::query_as::<_, (i64, i64, i64, i64)>(SUMS).fetch_one(&mut *look).await;
        let (rows, total, minutes_total, days_total) = sums.map_err(failed)?;
        let differing = sqlx::query_scalar(DIFFERING).fetch_all(&mut *look).await.map_err(failed)?;
        let differing_minutes = differing.into_iter().map(Minute).collect();
        Ok(Recount { rows, total, minutes_total, days_total, differing_minutes })
    }

    async fn compact_writers(&self, age: Duration) -> Result<Vec<WriterId>, StoreError> {
        let mut writer = self.writer.lock().await;
        let before: Millis = self.clock.now().saturating_sub(millis(age));
        let compact_writers = async {
            let mut transaction = turn(&mut writer).await?;
            let old = sqlx::query_scalar(OLD).bind(before).fetch_all(&mut *transaction).await?;
            for id in &old {
                sqlx::query(FOLD).bind(*id).execute(&mut *transaction).await?;
                sqlx::query("DELETE FROM writers WHERE id = $1").bind(*id).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            Ok(old)
        };
        let compacted: Vec<i64> = compact_writers.await.map_err(failed)?;
        Ok(compacted.into_iter().map(WriterId).collect())
    }
}
