//! Reading the views per source.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{
    Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};
use tokio::time::timeout;

use super::{PostgresStore, connections::ACQUIRE_TIMEOUT, failure::Failure, totals::LARGE_READ_TIMEOUT};
use ping_core::{Day, KindCounts, KindRange, Millis, Minute, Span, Window, WindowSplit};
use ping_ports::{SourceReader, SourceSummary, StoreError};

const AS_OF: &str = "SELECT coalesce(min(as_of_ms), 0) FROM source_positions";
const SUMMARY: &str = "SELECT kind, count, first_ms, last_ms,
    (SELECT coalesce(sum(count), 0)::bigint FROM source_windows WHERE source = $1 AND bucket >= $2)
FROM source_kinds WHERE source = $1";
/// One index look-up per source and range: OFFSET keeps the planner from joining in another order, even if it still has the statistics
/// of an empty table.
const KIND_COUNTS: &str = "SELECT s.position, k.kind, k.count
FROM unnest($1::text[]) WITH ORDINALITY AS s (source, position)
CROSS JOIN unnest($2::text[], $3::text[]) AS r (first, last)
CROSS JOIN LATERAL (SELECT kind, count FROM source_kinds
    WHERE source = s.source AND kind >= r.first AND kind <= r.last OFFSET 0) AS k";
const TOP_EVER: &str =
    "SELECT source, sum(count)::bigint AS count FROM source_kinds GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1";
const TOP: &str = include_str!("sql/sources_top.sql");
const WINDOWS: &str = "SELECT bucket, count, first_ms, last_ms FROM source_windows
WHERE source = $1 AND bucket >= $2 AND bucket < $3";
const DAYS: &str = include_str!("sql/sources_days.sql");
const UNIQUES: &str = "SELECT minute, count(*) FROM source_minutes WHERE minute >= $1 AND minute < $2 GROUP BY 1";
const ROLLUPS: &str = "SELECT bucket, sum(count)::bigint FROM rollups
WHERE width_minutes = $1 AND bucket >= $2 AND bucket < $3 GROUP BY 1";

impl PostgresStore {
    async fn rows<T>(&self, query: QueryAs<'static, Postgres, T, PgArguments>) -> Result<Vec<T>, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let mut connection = self.read_pool.acquire().await?;
        let result = timeout(LARGE_READ_TIMEOUT, query.fetch_all(connection.get_mut())).await;
        Ok(connection.finish(result)?)
    }

    /// As `rows`, for a statement that reads many rows.
    async fn rows_of_large_read<T>(
        &self,
        query: QueryAs<'static, Postgres, T, PgArguments>,
    ) -> Result<Vec<T>, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let waited = timeout(ACQUIRE_TIMEOUT, self.large_reads.acquire()).await;
        let _permit = match waited {
            Ok(permit) => permit.map_err(|closed| Failure::NotSent(closed.into()))?,
            Err(_) => return Err(Failure::NotSent(self.read_pool.timed_out().into()).into()),
        };
        self.rows(query).await
    }
}

#[async_trait]
impl SourceReader for PostgresStore {
    async fn as_of(&self) -> Result<Millis, StoreError> {
        let rows: Vec<(i64,)> = self.rows(sqlx::query_as(AS_OF)).await?;
        Ok(rows.first().map_or(0, |(as_of,)| *as_of))
    }

    async fn summary(&self, source: &str, since: Window) -> Result<Option<SourceSummary>, StoreError> {
        type Row = (String, i64, Millis, Millis, i64);
        let rows = self.rows::<Row>(sqlx::query_as(SUMMARY).bind(source.to_owned()).bind(since.0)).await?;
        let Some((.., recent)) = rows.first() else { return Ok(None) };
        let recent = *recent;
        let kind = |(kind, count, first, last, _): Row| (kind.into(), Span { count, first, last });
        Ok(Some(SourceSummary { kinds: rows.into_iter().map(kind).collect(), recent }))
    }

    async fn kind_counts(&self, sources: &[Box<str>], ranges: &[KindRange]) -> Result<Vec<KindCounts>, StoreError> {
        let names: Vec<_> = sources.iter().map(ToString::to_string).collect();
        let (first, last): (Vec<_>, Vec<_>) =
            ranges.iter().map(|range| (range.first.to_string(), range.last.to_string())).unzip();
        let query = sqlx::query_as(KIND_COUNTS).bind(names).bind(first).bind(last);
        let mut counts = vec![KindCounts::new(); sources.len()];
        for (position, kind, count) in self.rows::<(i64, String, i64)>(query).await? {
            // Positions start at 1.
            let place = usize::try_from(position - 1).ok();
            if let Some(counts) = place.and_then(|place| counts.get_mut(place)) {
                counts.insert(kind.into(), count);
            }
        }
        Ok(counts)
    }

    async fn top(&self, range: Option<&WindowSplit>, limit: u32) -> Result<Vec<(String, i64)>, StoreError> {
        let limit = i64::from(limit);
        let Some(range) = range else { return self.rows_of_large_read(sqlx::query_as(TOP_EVER).bind(limit)).await };
        let piece = |index: usize| range.windows.get(index).map_or((0, 0), |(from, to)| (from.0, to.0));
        let (from, to) = range.days.first().copied().unwrap_or_default();
        let windows = (Window::of(from.start()).0, Window::of(to.start()).0);
        let mut query = sqlx::query_as(TOP).bind(limit);
        for (from, to) in [piece(0), piece(1), (from.0, to.0), windows] {
            query = query.bind(from).bind(to);
        }
        self.rows_of_large_read(query).await
    }

    async fn windows(&self, source: &str, from: Window, to: Window) -> Result<BTreeMap<Window, Span>, StoreError> {
        let query = sqlx::query_as(WINDOWS).bind(source.to_owned()).bind(from.0).bind(to.0);
        let rows: Vec<(i64, i64, Millis, Millis)> = self.rows(query).await?;
        let window = |(bucket, count, first, last)| (Window(bucket), Span { count, first, last });
        Ok(rows.into_iter().map(window).collect())
    }

    async fn days(&self, source: &str, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError> {
        let query = sqlx::query_as(DAYS).bind(source.to_owned()).bind(from.0).bind(to.0);
        let query = query.bind(Window::of(from.start()).0).bind(Window::of(to.start()).0);
        let rows: Vec<(i64, i64)> = self.rows(query).await?;
        Ok(rows.into_iter().map(|(day, count)| (Day(day), count)).collect())
    }

    async fn uniques(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        let rows: Vec<(i64, i64)> = self.rows(sqlx::query_as(UNIQUES).bind(from.0).bind(to.0)).await?;
        Ok(rows.into_iter().map(|(minute, count)| (Minute(minute), count)).collect())
    }

    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        let rows: Vec<(i64, i64)> =
            self.rows_of_large_read(sqlx::query_as(ROLLUPS).bind(1).bind(from.0).bind(to.0)).await?;
        Ok(rows.into_iter().map(|(minute, count)| (Minute(minute), count)).collect())
    }

    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError> {
        let rows: Vec<(i64, i64)> =
            self.rows_of_large_read(sqlx::query_as(ROLLUPS).bind(1440).bind(from.0).bind(to.0)).await?;
        Ok(rows.into_iter().map(|(day, count)| (Day(day), count)).collect())
    }
}
