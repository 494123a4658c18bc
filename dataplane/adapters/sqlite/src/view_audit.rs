//! The audit of the views.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{SqliteStore, commit::write, failed};
use ping_core::{Day, Generation, Millis};
use ping_ports::{RowDifference, StoreError, ViewAudit, ViewAuditState, ViewSums};
use ping_segments::{AuditedSegment, Segment};
use ping_sql::{AccountRow, AuditStateRow, AuditedRow, added_sums, audited_segments, view_audit_state, view_sums};

/// The columns are those of [`AccountRow`], with the time after reading left at 0.
const SUMS: &str = "WITH accounts AS (
    SELECT 0 AS account, -1 AS family, bucket AS period, attributed AS count, 0 AS outdated FROM rollups WHERE width_minutes = 1440
    UNION ALL SELECT CASE WHEN family < 0 THEN 0 ELSE 1 END, family, period, count, 0 FROM source_sums
    UNION ALL
    SELECT 2, family, period, sum(events), min(events) = 0 FROM source_segments WHERE family < 3 GROUP BY family, period)
SELECT generation, (SELECT coalesce(min(as_of_ms), 0) FROM source_positions), 0, account, family, period, count, outdated
FROM source_views LEFT JOIN accounts ON true";
const SEGMENTS: &str = "SELECT id, family, node, period, data, events, digest FROM source_segments
WHERE id > $1 ORDER BY id LIMIT $2";
const ROLLED_UP: &str = "SELECT bucket, attributed FROM rollups WHERE width_minutes = 1440";
const SUSPECT: &str =
    "UPDATE source_audit SET suspect = 1 WHERE EXISTS (SELECT 1 FROM source_views WHERE generation = $1)";
const AUDITED: &str = "UPDATE source_audit SET suspect = 0, audited_ms = $2
WHERE EXISTS (SELECT 1 FROM source_views WHERE generation = $1)";
const STATE: &str =
    "SELECT suspect, audited_ms, changed_incarnation, change_noticed_ms, phantom_events FROM source_audit";

/// Adds what `segments` add to the sums of the views.
pub(super) async fn add_sums(writer: &mut SqliteConnection, segments: &[Segment]) -> Result<(), sqlx::Error> {
    let sums: Vec<_> = added_sums(segments).into_iter().collect();
    let add = " ON CONFLICT DO UPDATE SET count = count + excluded.count";
    write(writer, "INSERT INTO source_sums (family, period, count) ", &sums, add, |row, ((family, period), count)| {
        row.push_bind(family.code()).push_bind(*period).push_bind(*count);
    })
    .await?;
    Ok(())
}

/// Events with a source, per day, that the rollups lack: those that an earlier version has committed. `per_day` are all of them.
pub(super) async fn unattributed(
    snapshot: &mut Transaction<'static, Sqlite>,
    mut per_day: BTreeMap<Day, i64>,
) -> Result<Vec<(Day, i64)>, sqlx::Error> {
    let rolled_up: Vec<(i64, i64)> = sqlx::query_as(ROLLED_UP).fetch_all(&mut **snapshot).await?;
    for (day, count) in rolled_up {
        *per_day.entry(Day(day)).or_insert(0) -= count;
    }
    Ok(per_day.into_iter().filter(|(_, count)| *count != 0).collect())
}

/// Notes the events that the rollups lack.
pub(super) async fn fill_unattributed(
    writer: &mut SqliteConnection,
    unattributed: &[(Day, i64)],
) -> Result<(), sqlx::Error> {
    let into = "INSERT INTO source_sums (family, period, count) ";
    write(writer, into, unattributed, "", |row, (day, count)| {
        row.push_bind(-1).push_bind(day.0).push_bind(*count);
    })
    .await?;
    Ok(())
}

#[async_trait]
impl ViewAudit for SqliteStore {
    async fn view_sums(&self) -> Result<Option<ViewSums>, StoreError> {
        let (_, mut snapshot) = self.begin_read().await?;
        let rows: Vec<AccountRow> = sqlx::query_as(SUMS).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let sums = view_sums(rows)?;
        Ok(sums.map(|sums| ViewSums { until: self.clock.now(), ..sums }))
    }

    async fn audited_segments(&self, after: i64, limit: usize) -> Result<Vec<AuditedSegment>, StoreError> {
        let segments = sqlx::query_as(SEGMENTS).bind(after).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows: Vec<AuditedRow> = segments.fetch_all(&self.readers).await.map_err(failed)?;
        audited_segments(rows)
    }

    /// There are none.
    async fn differing_rows(&self, _: Day, _: Day) -> Result<Vec<RowDifference>, StoreError> {
        Ok(Vec::new())
    }

    async fn mark_views_suspect(&self, generation: &Generation) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        sqlx::query(SUSPECT).bind(generation).execute(&mut *writer).await.map_err(failed)?;
        Ok(())
    }

    async fn views_audited(&self, generation: &Generation, at: Millis) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        sqlx::query(AUDITED).bind(generation).bind(at).execute(&mut *writer).await.map_err(failed)?;
        Ok(())
    }

    async fn view_audit_state(&self) -> Result<ViewAuditState, StoreError> {
        let state: Option<AuditStateRow> = sqlx::query_as(STATE).fetch_optional(&self.readers).await.map_err(failed)?;
        Ok(state.map(view_audit_state).unwrap_or_default())
    }
}
