//! The outbox: commits that may not be published yet.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::{SqliteStore, begin_write, failed, where_in};
use ping_core::{LastSeqs, Millis, Seq, WriterId, millis};
use ping_ports::{Batch, Committed, Outbox, OutboxRow, OutboxWatermark, StoreError};
use ping_sql::outbox_payload;

const UNPUBLISHED: &str = include_str!("sql/outbox_unpublished.sql");
const FORGET: &str = "DELETE FROM outbox WHERE writer = $1 AND last_seq <= $2";
const EXPIRE: &str = "UPDATE writers SET open = 0, closed_ms = $1 WHERE open AND lease_until < $1";
const CLAIM_ORPHAN: &str = "UPDATE writers SET lent_until = $2 WHERE id = (
    SELECT id FROM writers w WHERE NOT open AND lent_until <= $1
        AND EXISTS (SELECT 1 FROM outbox o WHERE o.writer = w.id)
    ORDER BY id LIMIT 1)
RETURNING id";
const WATERMARK: &str =
    "SELECT min((SELECT committed_ms FROM outbox o WHERE o.writer = w.id ORDER BY last_seq LIMIT 1))
FROM writers w";

const ALL_WRITERS: &str = "SELECT id, last_seq, is_compacted FROM (
    SELECT id, last_seq, 0 AS is_compacted FROM writers UNION ALL SELECT id, last_seq, 1 FROM compacted_writers) WHERE id";

/// Writers per statement: far below SQLite's limit of 32,766 variables.
const WRITERS_PER_STATEMENT: usize = 1000;

struct Row {
    first_seq: Seq,
    partitions: u32,
    partition: i32,
    committed_ms: Millis,
    known: Vec<u8>,
    payload: Vec<u8>,
}

ping_sql::from_row!(Row of sqlx::sqlite::SqliteRow { first_seq, partitions, partition, committed_ms, known, payload });

impl Row {
    fn decode(self, writer: WriterId) -> Result<OutboxRow, StoreError> {
        let events = outbox_payload::decode(&self.payload).map_err(|error| StoreError(error.into()))?;
        let known: Result<HashSet<_>, _> = self.known.chunks(16).map(Uuid::from_slice).collect();
        let known = known.map_err(|error| StoreError(error.into()))?;
        let batch = Batch {
            writer,
            first_seq: self.first_seq,
            events: Arc::new(events),
            partitions: self.partitions,
            partition: self.partition,
            lease: Duration::ZERO,
        };
        Ok(OutboxRow { batch, committed: Committed { at: self.committed_ms, known }, trace: None })
    }
}

#[async_trait]
impl Outbox for SqliteStore {
    async fn unpublished(&self, writer: WriterId, after: Seq, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        // A limit beyond the largest sequence number is no limit.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = sqlx::query_as::<_, Row>(UNPUBLISHED).bind(writer.0).bind(after).bind(limit);
        let rows = query.fetch_all(&self.readers).await.map_err(failed)?;
        rows.into_iter().map(|row| row.decode(writer)).collect()
    }

    async fn forget(&self, writer: WriterId, seq: Seq) -> Result<(), StoreError> {
        let query = sqlx::query(FORGET).bind(writer.0).bind(seq);
        query.execute(&mut *self.writer().await?).await.map_err(failed)?;
        Ok(())
    }

    async fn claim_orphan(&self, lease: Duration) -> Result<Option<WriterId>, StoreError> {
        let mut writer = self.writer().await?;
        let now = self.clock.now();
        let claim = async {
            let mut transaction = begin_write(&mut writer).await?;
            sqlx::query(EXPIRE).bind(now).execute(&mut *transaction).await?;
            let orphan = sqlx::query_scalar(CLAIM_ORPHAN).bind(now).bind(now.saturating_add(millis(lease)));
            let orphan = orphan.fetch_optional(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(orphan)
        };
        Ok(claim.await.map_err(failed)?.map(WriterId))
    }

    async fn outbox_watermark(&self) -> Result<OutboxWatermark, StoreError> {
        let now = self.clock.now();
        let oldest = sqlx::query_scalar(WATERMARK).fetch_one(&self.readers).await;
        Ok(OutboxWatermark { now, oldest_unpublished: oldest.map_err(failed)? })
    }

    async fn last_seqs(&self, writers: &[WriterId]) -> Result<LastSeqs, StoreError> {
        let mut found = Vec::new();
        for writers in writers.chunks(WRITERS_PER_STATEMENT) {
            let mut query = where_in(ALL_WRITERS, writers.iter().map(|writer| writer.0));
            let rows = query.build_query_as::<(i64, Seq, bool)>().fetch_all(&self.readers).await;
            found.extend(rows.map_err(failed)?);
        }
        Ok(ping_sql::last_seqs(found))
    }
}
