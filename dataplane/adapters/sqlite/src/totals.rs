//! Reading totals. Each answer comes from one snapshot.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite};

use super::{SqliteStore, begin_write, failed};
use ping_core::{Millis, Minute, Seq, TimeRange, WriterId, millis};
use ping_ports::{Counted, DroppedEvents, RangeCountError, Recount, Snapshot, StoreError, TotalsStore, WriterTotal};

const TOTAL: &str = "SELECT coalesce(sum(total), 0) FROM writers";
/// Minutes since $1, and older ones touched since $3 if $2. Touched minutes are searched for among all minutes; only a rebuild of the
/// cache asks for them.
const MINUTES: &str = "SELECT bucket, count FROM rollups WHERE width_minutes = 1 AND bucket >= $1
UNION ALL SELECT bucket, count FROM rollups WHERE $2 AND width_minutes = 1 AND bucket < $1 AND touched_ms >= $3";
const WRITERS: &str = "SELECT id, last_seq FROM writers WHERE id <> 0";
const SUMS: &str = "SELECT (SELECT count(*) FROM events), (SELECT coalesce(sum(count), 0) FROM dropped_minutes),
    (SELECT coalesce((max(minute) + 1) * 60000, 0) FROM dropped_minutes), (SELECT coalesce(sum(total), 0) FROM writers),
    (SELECT coalesce(sum(count), 0) FROM rollups WHERE width_minutes = 1),
    (SELECT coalesce(sum(count), 0) FROM rollups WHERE width_minutes = 1440)";
const DIFFERING: &str = include_str!("sql/differing_minutes.sql");

const COMPACTABLE: &str = "SELECT id FROM writers w WHERE NOT open AND id <> 0 AND closed_ms < $1
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.writer = w.id) ORDER BY id";
const REMEMBER: &str = "INSERT INTO compacted_writers (id, last_seq) SELECT id, last_seq FROM writers WHERE id = $1";
const ADD_TO_ROW_0: &str = "UPDATE writers SET total = total + (SELECT total FROM writers WHERE id = $1) WHERE id = 0";

#[async_trait]
impl TotalsStore for SqliteStore {
    async fn count(&self, range: Option<TimeRange>) -> Result<Counted, RangeCountError> {
        let as_of = self.clock.now();
        let Some(range) = range else {
            let count = sqlx::query_scalar(TOTAL).fetch_one(&self.readers).await.map_err(failed)?;
            return Ok(Counted { count, as_of });
        };
        let split = range.split();
        let first_edge = split.rows.iter().map(|(from, _)| *from).min();
        let mut query = QueryBuilder::<Sqlite>::new("SELECT milliseconds_from, 0");
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
        query.push(" FROM event_retention");
        let counted = query.build_query_as::<(Millis, i64)>().fetch_one(&self.readers).await;
        let (kept_from, count) = counted.map_err(failed)?;
        if first_edge.is_some_and(|edge| edge < kept_from) {
            return Err(RangeCountError::EdgeDropped(kept_from));
        }
        Ok(Counted { count, as_of })
    }

    async fn snapshot(&self, since: Minute, touched: Duration) -> Result<Snapshot, StoreError> {
        let (now, mut snapshot) = self.begin_read().await?;
        let touched_since = now.saturating_sub(millis(touched));
        let total = sqlx::query_scalar(TOTAL).fetch_one(&mut *snapshot).await.map_err(failed)?;
        let minutes =
            sqlx::query_as::<_, (i64, i64)>(MINUTES).bind(since.0).bind(!touched.is_zero()).bind(touched_since);
        let minutes = minutes.fetch_all(&mut *snapshot).await.map_err(failed)?;
        let writers = sqlx::query_as::<_, (i64, Seq)>(WRITERS).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let writer = |(id, last_seq)| WriterTotal { writer: WriterId(id), last_seq };
        Ok(Snapshot {
            at: now,
            until: self.clock.now(),
            total,
            minutes: minutes.into_iter().map(|(bucket, count)| (Minute(bucket), count)).collect(),
            writers: writers.into_iter().map(writer).collect(),
        })
    }

    async fn recount(&self) -> Result<Recount, StoreError> {
        let (_, mut snapshot) = self.begin_read().await?;
        let sums = sqlx::query_as::<_, (i64, i64, Millis, i64, i64, i64)>(SUMS).fetch_one(&mut *snapshot).await;
        let (rows, count, until, total, minutes_total, days_total) = sums.map_err(failed)?;
        let dropped = DroppedEvents { count, until };
        let differing = sqlx::query_scalar(DIFFERING).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let differing_minutes = differing.into_iter().map(Minute).collect();
        Ok(Recount { rows, dropped, total, minutes_total, days_total, differing_minutes })
    }

    async fn compact_writers(&self, age: Duration) -> Result<Vec<WriterId>, StoreError> {
        let mut writer = self.writer().await?;
        let before: Millis = self.clock.now().saturating_sub(millis(age));
        let compact = async {
            let mut transaction = begin_write(&mut writer).await?;
            let old = sqlx::query_scalar(COMPACTABLE).bind(before).fetch_all(&mut *transaction).await?;
            for id in &old {
                sqlx::query(ADD_TO_ROW_0).bind(*id).execute(&mut *transaction).await?;
                sqlx::query(REMEMBER).bind(*id).execute(&mut *transaction).await?;
                sqlx::query("DELETE FROM writers WHERE id = $1").bind(*id).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            Ok(old)
        };
        let compacted: Vec<i64> = compact.await.map_err(failed)?;
        Ok(compacted.into_iter().map(WriterId).collect())
    }
}
