//! Reading totals. Each answer is one statement, so all of it comes from one snapshot, taken after the statement's `now()`.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::{
    PostgresStore,
    failure::{Failure, Timeout},
    millis,
};
use ping_core::{Millis, Minute, Seq, TimeRange, WriterId};
use ping_ports::{Counted, DroppedEvents, RangeCountError, Recount, Snapshot, StoreError, TotalsStore, WriterTotal};

/// Limit of a statement that reads or moves many rows.
pub(super) const LARGE_READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit of counting every row.
const RECOUNT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

// `now()` precedes the statement's snapshot.
const TOTAL: &str =
    "SELECT coalesce(sum(total), 0)::bigint, floor(extract(epoch FROM now()) * 1000)::bigint FROM writers";
const RANGE: &str = include_str!("sql/totals_range.sql");
const SNAPSHOT: &str = include_str!("sql/totals_snapshot.sql");
const RECOUNT: &str = include_str!("sql/totals_recount.sql");
const COMPACT_WRITERS: &str = include_str!("sql/compact_writers.sql");

struct SnapshotRow {
    now_ms: Millis,
    until_ms: Millis,
    total: i64,
    minutes: Vec<i64>,
    counts: Vec<i64>,
    writers: Vec<i64>,
    seqs: Vec<Seq>,
}

ping_sql::from_row!(SnapshotRow of sqlx::postgres::PgRow { now_ms, until_ms, total, minutes, counts, writers, seqs });

struct RecountRow {
    rows: i64,
    dropped: i64,
    dropped_until: Millis,
    total: i64,
    minutes_total: i64,
    days_total: i64,
    differing: Vec<i64>,
}

ping_sql::from_row!(RecountRow of sqlx::postgres::PgRow { rows, dropped, dropped_until, total, minutes_total, days_total, differing });

impl PostgresStore {
    async fn total(&self) -> Result<Counted, StoreError> {
        let mut connection = self.read_pool.acquire().await?;
        let result = timeout(self.timeout, sqlx::query_as(TOTAL).fetch_one(connection.get_mut())).await;
        let (count, as_of) = connection.finish(result)?;
        Ok(Counted { count, as_of })
    }
}

#[async_trait]
impl TotalsStore for PostgresStore {
    async fn count(&self, range: Option<TimeRange>) -> Result<Counted, RangeCountError> {
        let Some(range) = range else { return Ok(self.total().await?) };
        let split = range.split();
        let (from, to): (Vec<_>, Vec<_>) = split.rows.into_iter().unzip();
        let minutes = split.minutes.into_iter().map(|piece| (1, piece));
        let pieces = minutes.chain(split.days.into_iter().map(|piece| (1440, piece)));
        let (widths, pieces): (Vec<i32>, Vec<_>) = pieces.unzip();
        let (first, last): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        let query = sqlx::query_as::<_, (Option<i64>, Millis, Millis)>(RANGE);
        let query = query.bind(from).bind(to).bind(widths).bind(first).bind(last);
        let mut connection = self.read_pool.acquire().await.map_err(StoreError::from)?;
        let result = timeout(self.timeout, query.fetch_one(connection.get_mut())).await;
        let (count, milliseconds_from, as_of) = connection.finish(result).map_err(StoreError::from)?;
        let count = count.ok_or(RangeCountError::EdgeDropped(milliseconds_from))?;
        Ok(Counted { count, as_of })
    }

    async fn snapshot(&self, since: Minute, touched: Duration) -> Result<Snapshot, StoreError> {
        let mut connection = self.read_pool.acquire().await?;
        let query = sqlx::query_as::<_, SnapshotRow>(SNAPSHOT).bind(since.0).bind(millis(touched));
        let result = timeout(LARGE_READ_TIMEOUT, query.fetch_one(connection.get_mut())).await;
        let row = connection.finish(result)?;
        let writers = row.writers.into_iter().zip(row.seqs);
        Ok(Snapshot {
            at: row.now_ms,
            until: row.until_ms,
            total: row.total,
            minutes: row.minutes.into_iter().map(Minute).zip(row.counts).collect(),
            writers: writers.map(|(id, last_seq)| WriterTotal { writer: WriterId(id), last_seq }).collect(),
        })
    }

    async fn recount(&self) -> Result<Recount, StoreError> {
        // It may take minutes: the connections of the pool are for counts.
        let mut connection = self.read_pool.dedicated().await?;
        let query = sqlx::query_as::<_, RecountRow>(RECOUNT);
        let result = timeout(RECOUNT_TIMEOUT, query.fetch_one(&mut connection)).await;
        let row = match result {
            Ok(row) => row.map_err(|error| Failure::classify(error).0)?,
            Err(_) => return Err(Failure::Unknown(Timeout.into()).into()),
        };
        Ok(Recount {
            rows: row.rows,
            dropped: DroppedEvents { count: row.dropped, until: row.dropped_until },
            total: row.total,
            minutes_total: row.minutes_total,
            days_total: row.days_total,
            differing_minutes: row.differing.into_iter().map(Minute).collect(),
        })
    }

    async fn compact_writers(&self, age: Duration) -> Result<Vec<WriterId>, StoreError> {
        let mut connection = self.read_pool.acquire().await?;
        let query = sqlx::query_scalar(COMPACT_WRITERS).bind(millis(age));
        let result = timeout(LARGE_READ_TIMEOUT, query.fetch_all(connection.get_mut())).await;
        Ok(connection.finish(result)?.into_iter().map(WriterId).collect())
    }
}
