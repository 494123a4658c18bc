//! Reading the views per source.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{SqliteStore, failed};
use ping_core::{Day, KindCounts, KindRange, Millis, Minute, Span, Window, WindowSplit};
use ping_ports::{SourceReader, SourceSummary, StoreError};

const AS_OF: &str = "SELECT coalesce(min(as_of_ms), 0) FROM source_positions";
const SUMMARY: &str = "SELECT kind, count, first_ms, last_ms,
    (SELECT coalesce(sum(count), 0) FROM source_windows WHERE source = $1 AND bucket >= $2)
FROM source_kinds WHERE source = $1";
const KIND_COUNTS: &str = "SELECT kind, count FROM source_kinds WHERE source = $1 AND kind >= $2 AND kind <= $3";
const TOP_EVER: &str = "SELECT source, sum(count) FROM source_kinds GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1";
const TOP: &str = include_str!("sql/sources_top.sql");
const WINDOWS: &str = "SELECT bucket, count, first_ms, last_ms FROM source_windows
WHERE source = $1 AND bucket >= $2 AND bucket < $3";
const DAYS: &str = "SELECT day, count FROM source_days WHERE source = $1 AND day >= $2 AND day < $3";
const UNIQUES: &str = "SELECT minute, count(*) FROM source_minutes WHERE minute >= $1 AND minute < $2 GROUP BY 1";
const ROLLUPS: &str = "SELECT bucket, count FROM rollups WHERE width_minutes = $1 AND bucket >= $2 AND bucket < $3";

#[async_trait]
impl SourceReader for SqliteStore {
    async fn as_of(&self) -> Result<Millis, StoreError> {
        sqlx::query_scalar(AS_OF).fetch_one(&self.readers).await.map_err(failed)
    }

    async fn summary(&self, source: &str, since: Window) -> Result<Option<SourceSummary>, StoreError> {
        type Row = (String, i64, Millis, Millis, i64);
        let query = sqlx::query_as(SUMMARY).bind(source.to_owned()).bind(since.0);
        let rows: Vec<Row> = query.fetch_all(&self.readers).await.map_err(failed)?;
        let Some((.., recent)) = rows.first() else { return Ok(None) };
        let recent = *recent;
        let kind = |(kind, count, first, last, _): Row| (kind.into(), Span { count, first, last });
        Ok(Some(SourceSummary { kinds: rows.into_iter().map(kind).collect(), recent }))
    }

    async fn kind_counts(&self, sources: &[Box<str>], ranges: &[KindRange]) -> Result<Vec<KindCounts>, StoreError> {
        let mut snapshot = self.readers.begin().await.map_err(failed)?;
        let mut counts = vec![KindCounts::new(); sources.len()];
        for (source, counts) in sources.iter().zip(&mut counts) {
            for KindRange { first, last } in ranges {
                let query = sqlx::query_as(KIND_COUNTS).bind(source.to_string());
                let query = query.bind(first.to_string()).bind(last.to_string());
                let rows: Vec<(String, i64)> = query.fetch_all(&mut *snapshot).await.map_err(failed)?;
                counts.extend(rows.into_iter().map(|(kind, count)| (kind.into(), count)));
            }
        }
        Ok(counts)
    }

    async fn top(&self, range: Option<&WindowSplit>, limit: u32) -> Result<Vec<(String, i64)>, StoreError> {
        let Some(range) = range else {
            return sqlx::query_as(TOP_EVER).bind(limit).fetch_all(&self.readers).await.map_err(failed);
        };
        let piece = |index: usize| range.windows.get(index).map_or((0, 0), |(from, to)| (from.0, to.0));
        let days = range.days.first().map_or((0, 0), |(from, to)| (from.0, to.0));
        let mut query = sqlx::query_as(TOP).bind(limit);
        for (from, to) in [piece(0), piece(1), days] {
            query = query.bind(from).bind(to);
        }
        query.fetch_all(&self.readers).await.map_err(failed)
    }

    async fn windows(&self, source: &str, from: Window, to: Window) -> Result<BTreeMap<Window, Span>, StoreError> {
        let query = sqlx::query_as(WINDOWS).bind(source.to_owned()).bind(from.0).bind(to.0);
        let rows: Vec<(i64, i64, Millis, Millis)> = query.fetch_all(&self.readers).await.map_err(failed)?;
        let window = |(bucket, count, first, last)| (Window(bucket), Span { count, first, last });
        Ok(rows.into_iter().map(window).collect())
    }

    async fn days(&self, source: &str, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError> {
        let query = sqlx::query_as(DAYS).bind(source.to_owned()).bind(from.0).bind(to.0);
        let rows: Vec<(i64, i64)> = query.fetch_all(&self.readers).await.map_err(failed)?;
        Ok(rows.into_iter().map(|(day, count)| (Day(day), count)).collect())
    }

    async fn uniques(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        let rows: Vec<(i64, i64)> =
            sqlx::query_as(UNIQUES).bind(from.0).bind(to.0).fetch_all(&self.readers).await.map_err(failed)?;
        Ok(rows.into_iter().map(|(minute, count)| (Minute(minute), count)).collect())
    }

    async fn all_minutes(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, i64>, StoreError> {
        let query = sqlx::query_as(ROLLUPS).bind(1).bind(from.0).bind(to.0);
        let rows: Vec<(i64, i64)> = query.fetch_all(&self.readers).await.map_err(failed)?;
        Ok(rows.into_iter().map(|(minute, count)| (Minute(minute), count)).collect())
    }

    async fn all_days(&self, from: Day, to: Day) -> Result<BTreeMap<Day, i64>, StoreError> {
        let query = sqlx::query_as(ROLLUPS).bind(1440).bind(from.0).bind(to.0);
        let rows: Vec<(i64, i64)> = query.fetch_all(&self.readers).await.map_err(failed)?;
        Ok(rows.into_iter().map(|(day, count)| (Day(day), count)).collect())
    }
}
