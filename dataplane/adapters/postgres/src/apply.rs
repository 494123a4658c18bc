//! Adding a checkpoint to the views: segments and positions change in one transaction, fenced by the rows of the positions.

use std::time::Duration;

use sqlx::{Connection, Postgres, postgres::PgArguments, query::QueryAs};
use tokio::time::timeout;

use super::{PostgresStore, row_export::CoverageRow, segments::insert, stats_rows::add_rows, view_audit::add_sums};
use ping_core::{Offset, Partition};
use ping_ports::{Advance, StoreError};
use ping_segments::Segment;

/// Milliseconds added to the call's time limit for each segment, which may have hundreds of rows.
const TIMEOUT_MS_PER_SEGMENT: u64 = 20;

/// Gives partitions that were added to the topic a position: offset 0, and no later watermark than the other partitions have.
const GROW: &str = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
SELECT grown, 0, (SELECT coalesce(min(as_of_ms), 0) FROM source_positions)
FROM source_views, unnest($1::int[]) AS g (grown) ON CONFLICT DO NOTHING";

const FENCE: &str = include_str!("sql/advance_views.sql");

/// The statement that moves the positions. If they were as expected, it returns which windows and days
/// have rows.
fn fence(advance: &Advance) -> QueryAs<'_, Postgres, CoverageRow, PgArguments> {
    let next_offset = |partition| advance.to.get(partition).copied().unwrap_or_default();
    sqlx::query_as(FENCE)
        .bind(&advance.generation)
        .bind(advance.from.keys().copied().collect::<Vec<Partition>>())
        .bind(advance.from.values().copied().collect::<Vec<_>>())
        .bind(advance.from.keys().map(next_offset).collect::<Vec<Offset>>())
        .bind(advance.marks.keys().map(|(writer, _)| writer.0).collect::<Vec<_>>())
        .bind(advance.marks.keys().map(|(_, partition)| *partition).collect::<Vec<_>>())
        .bind(advance.marks.values().copied().collect::<Vec<_>>())
        .bind(advance.as_of.unwrap_or(0))
}

impl PostgresStore {
    /// Adds `segments` and moves the positions; false when the positions are not the expected ones.
    pub(super) async fn advance(&self, advance: &Advance, segments: &[Segment]) -> Result<bool, StoreError> {
        // The watermark is the minimum over all partitions, so each of them needs a row.
        let partitions = Partition::try_from(advance.partitions).map_err(|error| StoreError(error.into()))?;
        let all = 0..advance.as_of.map_or(0, |_| partitions);
        let first = advance.from.iter().filter(|(_, at)| **at == 0).map(|(partition, _)| *partition);
        let grown: Vec<_> = first.chain(all).collect();
        let limit = self.timeout + Duration::from_millis(TIMEOUT_MS_PER_SEGMENT * segments.len() as u64);
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(limit, async {
            if !grown.is_empty() {
                sqlx::query(GROW).bind(grown).execute(connection.get_mut()).await?;
            }
            let mut transaction = connection.get_mut().begin().await?;
            let Some(coverage) = fence(advance).fetch_optional(&mut *transaction).await? else {
                transaction.rollback().await?;
                return Ok(None);
            };
            insert(&mut transaction, segments).await?;
            add_sums(&mut transaction, segments, advance.from.keys().next().copied().unwrap_or_default()).await?;
            let rows = add_rows(&mut transaction, segments, coverage.coverage()).await?;
            transaction.commit().await?;
            Ok(Some(rows))
        });
        let result = result.await;
        let Some(rows) = connection.finish(result)? else { return Ok(false) };
        self.limit_rows(rows).await?;
        Ok(true)
    }
}
