//! Reading the views per source, and totals over time.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{SqliteStore, failed};
use ping_core::{Day, Millis, Minute};
use ping_ports::{SegmentReader, StoreError};
use ping_segments::{Family, Node, SegmentQuery, StoredSegment};

const AS_OF: &str = "SELECT coalesce(min(as_of_ms), 0) FROM source_positions";
const DEEPEST: &str = "SELECT max(node) FROM source_segments WHERE family = $1";
const ROLLUPS: &str = "SELECT bucket, count FROM rollups WHERE width_minutes = $1 AND bucket >= $2 AND bucket < $3";

#[async_trait]
impl SegmentReader for SqliteStore {
    async fn as_of(&self) -> Result<Millis, StoreError> {
        sqlx::query_scalar(AS_OF).fetch_one(&self.readers).await.map_err(failed)
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<StoredSegment>, StoreError> {
        let (_, mut snapshot) = self.begin_read().await?;
        Self::select(&mut snapshot, queries).await
    }

    async fn many_segments(&self, queries: &[SegmentQuery]) -> Result<Vec<StoredSegment>, StoreError> {
        self.segments(queries).await
    }

    async fn deepest(&self, family: Family) -> Result<Node, StoreError> {
        let deepest = sqlx::query_scalar(DEEPEST).bind(family.code());
        let node: Option<i32> = deepest.fetch_one(&self.readers).await.map_err(failed)?;
        Ok(node.map_or(Node::ROOT, Node))
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
