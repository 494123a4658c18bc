//! Segments of the views.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, Postgres, postgres::PgArguments, query::QueryAs};

use super::PostgresStore;
use ping_core::{Day, Generation, Millis, Minute};
use ping_ports::{SegmentReader, StoreError};
use ping_segments::{Family, Node, NodeRange, Place, Segment, SegmentQuery, StoredSegment};
use ping_sql::{SegmentRow, place, stored_segments};

/// Rows per statement: it takes about a millisecond, so that a concurrent read does not wait longer.
const ROWS_PER_STATEMENT: usize = 64;

const AS_OF: &str = "SELECT coalesce(min(as_of_ms), 0) FROM source_positions";
/// One index scan per range: OFFSET keeps the planner from joining in another order, even if it still has the statistics of an empty table.
const SELECT: &str = "SELECT s.id, s.family, s.node, s.period, s.data
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::int[], $5::int[]) AS q (family, from_period, to_period, first_node, last_node)
CROSS JOIN LATERAL (SELECT * FROM source_segments
    WHERE family = q.family AND node >= q.first_node AND node <= q.last_node
        AND period >= q.from_period AND period < q.to_period OFFSET 0) AS s";
/// The segments at some places, of each the first ones.
const AT: &str = "SELECT s.id, s.family, s.node, s.period, s.data
FROM unnest($1::smallint[], $2::int[], $3::bigint[]) AS q (family, node, period)
CROSS JOIN LATERAL (SELECT * FROM source_segments
    WHERE family = q.family AND node = q.node AND period = q.period ORDER BY id LIMIT $4) AS s";
pub(super) const DEEPEST: &str = "SELECT coalesce(max(node), 1) FROM source_segments WHERE family = $1";
const ROLLUPS: &str = "SELECT bucket, sum(count)::bigint FROM rollups
WHERE width_minutes = $1 AND bucket >= $2 AND bucket < $3 GROUP BY 1";

const FULL: &str = "SELECT family, node, period FROM source_segments
GROUP BY 1, 2, 3 HAVING count(*) >= $1 ORDER BY 1, 2, 3 LIMIT $2";
const INSERT: &str = "INSERT INTO source_segments (family, node, period, data, events, digest)
SELECT * FROM unnest($1::smallint[], $2::int[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[])";
const INSERT_BASE: &str = "INSERT INTO source_base (family, node, period, data, events, digest)
SELECT * FROM unnest($1::smallint[], $2::int[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[])";
/// Excludes a rebuild. The commit does not wait for the disk: a crash undoes deletions and insertions together.
const FENCE: &str = "SELECT set_config('synchronous_commit', 'off', true),
    set_config('idle_in_transaction_session_timeout', '10s', true)
FROM source_views WHERE generation = $1 FOR SHARE";
/// In the order of their numbers, so that two processors cannot deadlock.
const LOCK: &str = "SELECT id FROM source_segments WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
const DELETE: &str = "DELETE FROM source_segments WHERE id = ANY ($1)";

/// The statement that selects what `queries` ask for.
fn select(queries: &[SegmentQuery]) -> QueryAs<'static, Postgres, SegmentRow, PgArguments> {
    let ranges: Vec<(&SegmentQuery, NodeRange)> =
        queries.iter().flat_map(|query| query.nodes.iter().map(move |nodes| (query, *nodes))).collect();
    sqlx::query_as(SELECT)
        .bind(ranges.iter().map(|(query, _)| query.family.code()).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(query, _)| query.periods.0).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(query, _)| query.periods.1).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(_, nodes)| nodes.first.0).collect::<Vec<_>>())
        .bind(ranges.iter().map(|(_, nodes)| nodes.last.0).collect::<Vec<_>>())
}

/// The segments that `queries` select, on a connection of the caller.
pub(super) async fn select_on(
    connection: &mut PgConnection,
    queries: &[SegmentQuery],
) -> Result<Vec<StoredSegment>, sqlx::Error> {
    let rows = select(queries).fetch_all(&mut *connection).await?;
    stored_segments(rows).map_err(|error| sqlx::Error::Decode(error.0))
}

/// Inserts `segments`.
pub(super) async fn insert(connection: &mut PgConnection, segments: &[Segment]) -> Result<(), sqlx::Error> {
    insert_by(connection, INSERT, segments).await
}

/// Inserts `segments` into the base that a rebuild begins with.
pub(super) async fn insert_into_base(connection: &mut PgConnection, segments: &[Segment]) -> Result<(), sqlx::Error> {
    insert_by(connection, INSERT_BASE, segments).await
}

async fn insert_by(
    connection: &mut PgConnection,
    statement: &'static str,
    segments: &[Segment],
) -> Result<(), sqlx::Error> {
    for rows in segments.chunks(ROWS_PER_STATEMENT) {
        let insert = sqlx::query(statement)
            .bind(rows.iter().map(|row| row.place.family.code()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.place.node.0).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.place.period).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.data.as_slice()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.events).collect::<Vec<_>>())
            .bind(rows.iter().map(Segment::digest).collect::<Vec<_>>());
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Replaces segments by their sums; false when one of them is gone, or the views are of another generation.
pub(super) async fn replace(
    connection: &mut PgConnection,
    generation: &Generation,
    merged: &[i64],
    sums: &[Segment],
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let fence = sqlx::query(FENCE).bind(generation).fetch_optional(&mut *transaction).await?;
    let locked: Vec<i64> = sqlx::query_scalar(LOCK).bind(merged).fetch_all(&mut *transaction).await?;
    if fence.is_none() || locked.len() != merged.len() {
        transaction.rollback().await?;
        return Ok(false);
    }
    sqlx::query(DELETE).bind(merged).execute(&mut *transaction).await?;
    insert(&mut transaction, sums).await?;
    transaction.commit().await?;
    Ok(true)
}

impl PostgresStore {
    pub(super) async fn select_full(&self, fan_in: usize, limit: usize) -> Result<Vec<Place>, StoreError> {
        let limits = [fan_in, limit].map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let rows: Vec<(i16, i32, i64)> =
            self.rows_of_large_read(sqlx::query_as(FULL).bind(limits[0]).bind(limits[1])).await?;
        rows.into_iter().map(|(family, node, period)| place(family, node, period)).collect()
    }

    pub(super) async fn select_at(&self, places: &[Place], limit: usize) -> Result<Vec<StoredSegment>, StoreError> {
        let at = sqlx::query_as(AT)
            .bind(places.iter().map(|place| place.family.code()).collect::<Vec<_>>())
            .bind(places.iter().map(|place| place.node.0).collect::<Vec<_>>())
            .bind(places.iter().map(|place| place.period).collect::<Vec<_>>())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        stored_segments(self.rows_of_large_read(at).await?)
    }
}

#[async_trait]
impl SegmentReader for PostgresStore {
    async fn as_of(&self) -> Result<Millis, StoreError> {
        let rows: Vec<(i64,)> = self.rows(sqlx::query_as(AS_OF)).await?;
        Ok(rows.first().map_or(0, |(as_of,)| *as_of))
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<StoredSegment>, StoreError> {
        stored_segments(self.rows(select(queries)).await?)
    }

    async fn many_segments(&self, queries: &[SegmentQuery]) -> Result<Vec<StoredSegment>, StoreError> {
        stored_segments(self.rows_of_large_read(select(queries)).await?)
    }

    async fn deepest(&self, family: Family) -> Result<Node, StoreError> {
        let rows: Vec<(i32,)> = self.rows(sqlx::query_as(DEEPEST).bind(family.code())).await?;
        Ok(rows.first().map_or(Node::ROOT, |(node,)| Node(*node)))
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
