//! The audit of the views: the sums beside the segments, and those of the rows for SQL.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::PgConnection;
use tokio::time::timeout;

use super::PostgresStore;
use ping_core::{Day, Generation, Millis, Partition};
use ping_ports::{RowDifference, StoreError, ViewAudit, ViewAuditState, ViewSums};
use ping_segments::{AuditedSegment, Segment};
use ping_sql::{
    AccountRow, AuditStateRow, AuditedRow, added_sums, audited_segments, family, view_audit_state, view_sums,
};

const SUMS: &str = include_str!("sql/view_sums.sql");
const DIFFERING_ROWS: &str = include_str!("sql/differing_rows.sql");
const SEGMENTS: &str = "SELECT id, family, node, period, data, events, digest FROM source_segments
WHERE id > $1 ORDER BY id LIMIT $2";
/// In the order of the keys, so that concurrent checkpoints cannot deadlock.
const ADD: &str = "INSERT INTO source_sums AS s (family, period, \"partition\", count)
SELECT family, period, $3, count FROM unnest($1::smallint[], $2::bigint[], $4::bigint[]) AS a (family, period, count)
ON CONFLICT (family, period, \"partition\") DO UPDATE SET count = s.count + excluded.count";
/// `rollups.attributed` lacks what servers of an earlier version have committed.
const FILL_UNATTRIBUTED: &str = "INSERT INTO source_sums (family, period, \"partition\", count)
SELECT -1, day, $3, coalesce(stored.count, 0) - coalesce(known.count, 0)
FROM unnest($1::bigint[], $2::bigint[]) AS stored (day, count) FULL JOIN (
    SELECT bucket AS day, sum(attributed)::bigint AS count FROM rollups WHERE width_minutes = 1440 GROUP BY 1) AS known USING (day)
WHERE coalesce(stored.count, 0) <> coalesce(known.count, 0)";
const SUSPECT: &str =
    "UPDATE source_audit SET suspect = true WHERE EXISTS (SELECT FROM source_views WHERE generation = $1)";
const AUDITED: &str = "UPDATE source_audit SET suspect = false, audited_ms = $2
WHERE EXISTS (SELECT FROM source_views WHERE generation = $1)";
const STATE: &str =
    "SELECT suspect, audited_ms, changed_incarnation, change_noticed_ms, phantom_events FROM source_audit";

/// Days that fit into a number of windows.
const DAYS: i64 = 1 << 40;

/// Adds the sums of `segments`, which a checkpoint that begins with `partition` adds.
pub(super) async fn add_sums(
    connection: &mut PgConnection,
    segments: &[Segment],
    partition: Partition,
) -> Result<(), sqlx::Error> {
    let sums = added_sums(segments);
    if sums.is_empty() {
        return Ok(());
    }
    let add = sqlx::query(ADD)
        .bind(sums.keys().map(|(family, _)| family.code()).collect::<Vec<_>>())
        .bind(sums.keys().map(|(_, period)| *period).collect::<Vec<_>>())
        .bind(partition)
        .bind(sums.values().copied().collect::<Vec<_>>());
    add.execute(connection).await?;
    Ok(())
}

/// Notes the difference between the events `per_day` that have a source and those in the rollups.
pub(super) async fn fill_unattributed(
    connection: &mut PgConnection,
    per_day: &BTreeMap<Day, i64>,
    partition: Partition,
) -> Result<(), sqlx::Error> {
    let fill = sqlx::query(FILL_UNATTRIBUTED)
        .bind(per_day.keys().map(|day| day.0).collect::<Vec<_>>())
        .bind(per_day.values().copied().collect::<Vec<_>>())
        .bind(partition);
    fill.execute(connection).await?;
    Ok(())
}

#[async_trait]
impl ViewAudit for PostgresStore {
    async fn view_sums(&self) -> Result<Option<ViewSums>, StoreError> {
        let rows: Vec<AccountRow> = self.rows_of_large_read(sqlx::query_as(SUMS)).await?;
        view_sums(rows)
    }

    async fn audited_segments(&self, after: i64, limit: usize) -> Result<Vec<AuditedSegment>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<AuditedRow> = self.rows_of_large_read(sqlx::query_as(SEGMENTS).bind(after).bind(limit)).await?;
        audited_segments(rows)
    }

    async fn differing_rows(&self, from: Day, to: Day) -> Result<Vec<RowDifference>, StoreError> {
        let [from, to] = [from, to].map(|day| day.0.clamp(-DAYS, DAYS));
        let rows: Vec<(i16, i64, i64, i64)> =
            self.rows_of_large_read(sqlx::query_as(DIFFERING_ROWS).bind(from).bind(to)).await?;
        let difference =
            |(code, day, added, held)| Ok(RowDifference { family: family(code)?, day: Day(day), added, held });
        rows.into_iter().map(difference).collect()
    }

    async fn mark_views_suspect(&self, generation: &Generation) -> Result<(), StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let suspect = sqlx::query(SUSPECT).bind(generation);
        let result = timeout(self.timeout, suspect.execute(connection.get_mut())).await;
        connection.finish(result)?;
        Ok(())
    }

    async fn views_audited(&self, generation: &Generation, at: Millis) -> Result<(), StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let audited = sqlx::query(AUDITED).bind(generation).bind(at);
        let result = timeout(self.timeout, audited.execute(connection.get_mut())).await;
        connection.finish(result)?;
        Ok(())
    }

    async fn view_audit_state(&self) -> Result<ViewAuditState, StoreError> {
        let rows: Vec<AuditStateRow> = self.rows(sqlx::query_as(STATE)).await?;
        Ok(rows.first().copied().map(view_audit_state).unwrap_or_default())
    }
}
