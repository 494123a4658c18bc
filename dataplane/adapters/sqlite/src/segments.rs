//! Segments of the views.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{SqliteStore, commit::write, failed, where_in};
use ping_ports::StoreError;
use ping_segments::{Place, Segment, SegmentQuery, StoredSegment};
use ping_sql::{SegmentRow, place, stored_segments};

const SELECT: &str = "SELECT id, family, node, period, data FROM source_segments
WHERE family = $1 AND node >= $2 AND node <= $3 AND period >= $4 AND period < $5";
const AT: &str = "SELECT id, family, node, period, data FROM source_segments
WHERE family = $1 AND node = $2 AND period = $3 ORDER BY id LIMIT $4";
const FULL: &str = "SELECT family, node, period FROM source_segments
GROUP BY 1, 2, 3 HAVING count(*) >= $1 ORDER BY 1, 2, 3 LIMIT $2";
/// Rows that one statement deletes, below SQLite's limit of variables.
const DELETE_AT_ONCE: usize = 10_000;

/// Inserts `segments` into the views.
pub(super) async fn insert(writer: &mut SqliteConnection, segments: &[Segment]) -> Result<(), sqlx::Error> {
    let into = "INSERT INTO source_segments (family, node, period, data, events, digest) ";
    insert_into(writer, into, segments).await
}

/// Inserts `segments` with the beginning of a statement, which names the table.
pub(super) async fn insert_into(
    writer: &mut SqliteConnection,
    into: &'static str,
    segments: &[Segment],
) -> Result<(), sqlx::Error> {
    write(writer, into, segments, "", |row, segment| {
        let Place { family, node, period } = segment.place;
        row.push_bind(family.code()).push_bind(node.0).push_bind(period).push_bind(segment.data.clone());
        row.push_bind(segment.events).push_bind(segment.digest());
    })
    .await?;
    Ok(())
}

/// Deletes the segments with these numbers. Returns how many there were.
pub(super) async fn delete(writer: &mut SqliteConnection, ids: &[i64]) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    for ids in ids.chunks(DELETE_AT_ONCE) {
        let mut delete = where_in("DELETE FROM source_segments WHERE id", ids.iter().copied());
        deleted += delete.build().execute(&mut *writer).await?.rows_affected();
    }
    Ok(deleted)
}

impl SqliteStore {
    /// The segments that `queries` select, from the snapshot.
    pub(super) async fn select(
        snapshot: &mut Transaction<'static, Sqlite>,
        queries: &[SegmentQuery],
    ) -> Result<Vec<StoredSegment>, StoreError> {
        let mut rows: Vec<SegmentRow> = Vec::new();
        for query in queries {
            for nodes in &query.nodes {
                let select = sqlx::query_as(SELECT).bind(query.family.code()).bind(nodes.first.0).bind(nodes.last.0);
                let select = select.bind(query.periods.0).bind(query.periods.1);
                rows.extend(select.fetch_all(&mut **snapshot).await.map_err(failed)?);
            }
        }
        stored_segments(rows)
    }

    pub(super) async fn select_at(&self, places: &[Place], limit: usize) -> Result<Vec<StoredSegment>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (_, mut snapshot) = self.begin_read().await?;
        let mut rows: Vec<SegmentRow> = Vec::new();
        for Place { family, node, period } in places {
            let select = sqlx::query_as(AT).bind(family.code()).bind(node.0).bind(period).bind(limit);
            rows.extend(select.fetch_all(&mut *snapshot).await.map_err(failed)?);
        }
        stored_segments(rows)
    }

    pub(super) async fn select_full(&self, fan_in: usize, limit: usize) -> Result<Vec<Place>, StoreError> {
        let limits = [fan_in, limit].map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let full = sqlx::query_as(FULL).bind(limits[0]).bind(limits[1]);
        let rows: Vec<(i16, i32, i64)> = full.fetch_all(&self.readers).await.map_err(failed)?;
        rows.into_iter().map(|(family, node, period)| place(family, node, period)).collect()
    }
}
