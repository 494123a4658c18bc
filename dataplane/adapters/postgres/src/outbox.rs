//! The outbox: commits that may not be published yet. Rows of a writer are deleted in order, so a search for the first one starts
//! at the number in `published` and never scans dead rows.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;
use uuid::Uuid;

use super::{PostgresStore, millis};
use ping_core::{LastSeqs, Millis, Seq, WriterId};
use ping_ports::{Batch, Committed, Outbox, OutboxRow, OutboxWatermark, StoreError};
use ping_sql::outbox_payload;

const UNPUBLISHED: &str = include_str!("sql/outbox_unpublished.sql");
const FORGET: &str = include_str!("sql/outbox_forget.sql");

/// A writer whose row is locked is committing, even if its lease has expired.
const EXPIRE: &str = "WITH expired AS (
    SELECT id FROM writers WHERE open AND lease_until < now() FOR UPDATE SKIP LOCKED)
UPDATE writers w SET open = false, closed_at = now() FROM expired WHERE w.id = expired.id";
const CLAIM_ORPHAN: &str = include_str!("sql/outbox_claim_orphan.sql");
const WATERMARK: &str = include_str!("sql/outbox_watermark.sql");
const LAST_SEQS: &str = "SELECT id, last_seq, false FROM writers WHERE id = ANY($1)
UNION ALL SELECT id, last_seq, true FROM compacted_writers WHERE id = ANY($1)";

struct Row {
    first_seq: Seq,
    partitions: i32,
    partition: i32,
    committed_ms: Millis,
    known: Option<Vec<Uuid>>,
    payload: Vec<u8>,
}

ping_sql::from_row!(Row of sqlx::postgres::PgRow { first_seq, partitions, partition, committed_ms, known, payload });

impl Row {
    fn decode(self, writer: WriterId) -> Result<OutboxRow, StoreError> {
        let events = outbox_payload::decode(&self.payload).map_err(|error| StoreError(error.into()))?;
        let batch = Batch {
            writer,
            first_seq: self.first_seq,
            events: Arc::new(events),
            partitions: self.partitions.unsigned_abs(),
            partition: self.partition,
            lease: Duration::ZERO,
        };
        let known: HashSet<_> = self.known.into_iter().flatten().collect();
        Ok(OutboxRow { batch, committed: Committed { at: self.committed_ms, known }, trace: None })
    }
}

#[async_trait]
impl Outbox for PostgresStore {
    async fn unpublished(&self, writer: WriterId, after: Seq, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        // A limit beyond the largest sequence number is no limit.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = sqlx::query_as::<_, Row>(UNPUBLISHED).bind(writer.0).bind(after).bind(limit);
        let result = timeout(self.timeout, query.fetch_all(connection.get_mut())).await;
        connection.finish(result)?.into_iter().map(|row| row.decode(writer)).collect()
    }

    async fn forget(&self, writer: WriterId, seq: Seq) -> Result<(), StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let query = sqlx::query(FORGET).bind(writer.0).bind(seq);
        let result = timeout(self.timeout, query.execute(connection.get_mut())).await;
        connection.finish(result)?;
        Ok(())
    }

    async fn claim_orphan(&self, lease: Duration) -> Result<Option<WriterId>, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(self.timeout, async {
            sqlx::query(EXPIRE).execute(connection.get_mut()).await?;
            sqlx::query_scalar(CLAIM_ORPHAN).bind(millis(lease)).fetch_optional(connection.get_mut()).await
        });
        let result = result.await;
        Ok(connection.finish(result)?.map(WriterId))
    }

    async fn outbox_watermark(&self) -> Result<OutboxWatermark, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let query = sqlx::query_as::<_, (Millis, Option<Millis>)>(WATERMARK);
        let result = timeout(self.timeout, query.fetch_one(connection.get_mut())).await;
        let (now, oldest_unpublished) = connection.finish(result)?;
        Ok(OutboxWatermark { now, oldest_unpublished })
    }

    async fn last_seqs(&self, writers: &[WriterId]) -> Result<LastSeqs, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let ids: Vec<_> = writers.iter().map(|writer| writer.0).collect();
        let query = sqlx::query_as::<_, (i64, Seq, bool)>(LAST_SEQS).bind(ids);
        let result = timeout(self.timeout, query.fetch_all(connection.get_mut())).await;
        Ok(ping_sql::last_seqs(connection.finish(result)?))
    }
}
