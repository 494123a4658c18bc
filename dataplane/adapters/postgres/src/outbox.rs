//! What was committed and may not be published. A writer's rows leave from the front only, so whoever looks for its first one
//! begins at the number in `published` and never walks over the dead.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::FromRow;
use tokio::time::timeout;
use uuid::Uuid;

use super::{PostgresStore, millis};
use ping_core::{Millis, Seq, WriterId};
use ping_ports::{Batch, Committed, Outbox, OutboxRow, OutboxWatermark, StoreError};
use ping_sql::outbox_payload;

/// Numbers within a writer follow each other, so the row where the limit is reached is found by its number.
const UNPUBLISHED: &str = "WITH first AS (
    SELECT first_seq FROM outbox WHERE writer = $1 AND last_seq > $2 ORDER BY last_seq LIMIT 1),
last AS (
    SELECT last_seq FROM outbox WHERE writer = $1 AND last_seq >= (SELECT first_seq + $3 - 1 FROM first)
    ORDER BY last_seq LIMIT 1)
SELECT first_seq, partitions, \"partition\", committed_ms, known, payload FROM outbox
WHERE writer = $1 AND last_seq > $2 AND last_seq <= coalesce((SELECT last_seq FROM last), 9223372036854775807)
ORDER BY last_seq";

const FORGET: &str = "WITH before AS (SELECT coalesce((SELECT seq FROM published WHERE writer = $1), 0) AS seq),
noted AS (
    INSERT INTO published AS p (writer, seq) VALUES ($1, $2)
    ON CONFLICT (writer) DO UPDATE SET seq = greatest(p.seq, excluded.seq))
DELETE FROM outbox WHERE writer = $1 AND last_seq > (SELECT seq FROM before) AND last_seq <= $2";

/// A writer whose row is locked is at work, whatever its lease says.
const EXPIRE: &str = "WITH expired AS (
    SELECT id FROM writers WHERE open AND lease_until < now() FOR UPDATE SKIP LOCKED)
UPDATE writers w SET open = false, closed_at = now() FROM expired WHERE w.id = expired.id";

const LEND: &str = "WITH orphan AS (
    SELECT w.id FROM writers w LEFT JOIN published p ON p.writer = w.id
    WHERE NOT w.open AND w.lent_until <= now() AND w.last_seq > coalesce(p.seq, 0)
        AND EXISTS (SELECT FROM outbox o WHERE o.writer = w.id AND o.last_seq > coalesce(p.seq, 0))
    ORDER BY w.id LIMIT 1 FOR UPDATE OF w SKIP LOCKED)
UPDATE writers w SET lent_until = now() + $1 * interval '1 ms' FROM orphan WHERE w.id = orphan.id RETURNING w.id";

/// One probe of the index per writer that may have rows.
const WATERMARK: &str = "SELECT floor(extract(epoch FROM now()) * 1000)::bigint, min(oldest.committed_ms)
FROM writers w LEFT JOIN published p ON p.writer = w.id
CROSS JOIN LATERAL (
    SELECT committed_ms FROM outbox o WHERE o.writer = w.id AND o.last_seq > coalesce(p.seq, 0)
    ORDER BY o.last_seq LIMIT 1) AS oldest
WHERE w.last_seq > coalesce(p.seq, 0)";

#[derive(FromRow)]
struct Row {
    first_seq: Seq,
    partitions: i32,
    partition: i32,
    committed_ms: Millis,
    known: Option<Vec<Uuid>>,
    payload: Vec<u8>,
}

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
        Ok(OutboxRow { batch, committed: Committed { at: self.committed_ms, known } })
    }
}

#[async_trait]
impl Outbox for PostgresStore {
    async fn unpublished(&self, writer: WriterId, after: Seq, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let mut held = self.writing.take().await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = sqlx::query_as::<_, Row>(UNPUBLISHED).bind(writer.0).bind(after).bind(limit);
        let answer = timeout(self.timeout, query.fetch_all(held.connection())).await;
        held.finish(answer)?.into_iter().map(|row| row.decode(writer)).collect()
    }

    async fn forget(&self, writer: WriterId, seq: Seq) -> Result<(), StoreError> {
        let mut held = self.writing.take().await?;
        let query = sqlx::query(FORGET).bind(writer.0).bind(seq);
        let answer = timeout(self.timeout, query.execute(held.connection())).await;
        held.finish(answer)?;
        Ok(())
    }

    async fn claim_orphan(&self, lease: Duration) -> Result<Option<WriterId>, StoreError> {
        let mut held = self.writing.take().await?;
        let answer = timeout(self.timeout, async {
            sqlx::query(EXPIRE).execute(held.connection()).await?;
            sqlx::query_scalar(LEND).bind(millis(lease)).fetch_optional(held.connection()).await
        });
        let answer = answer.await;
        Ok(held.finish(answer)?.map(WriterId))
    }

    async fn outbox_watermark(&self) -> Result<OutboxWatermark, StoreError> {
        let mut held = self.writing.take().await?;
        let query = sqlx::query_as::<_, (Millis, Option<Millis>)>(WATERMARK);
        let answer = timeout(self.timeout, query.fetch_one(held.connection())).await;
        let (now, oldest_unpublished) = held.finish(answer)?;
        Ok(OutboxWatermark { now, oldest_unpublished })
    }
}
