//! Writing events.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{SqliteStore, begin_write, commit, failed, where_in};
use ping_core::{Event, Millis, Seq, WriterId, millis};
use ping_ports::{Batch, CommitError, Committed, EventStore, StoreError};

// Both return a row before they are committed, and sqlx does not wait for more: without a transaction, a failure would go unnoticed.
const OPEN: &str = "INSERT INTO writers (lease_until) VALUES ($1) RETURNING id";
const CLOSE: &str = "UPDATE writers SET open = 0, closed_ms = coalesce(closed_ms, $2) WHERE id = $1 RETURNING last_seq";
const RENEW: &str = "UPDATE writers SET lease_until = $3 WHERE id = $1 AND open AND last_seq = $2";

/// Ids per statement: far below SQLite's limit of 32,766 variables.
const IDS_PER_STATEMENT: usize = 1000;

#[derive(Debug, thiserror::Error)]
#[error("there is no writer {0}")]
struct NoSuchWriter(WriterId);

#[async_trait]
impl EventStore for SqliteStore {
    async fn open_writer(&self, lease: Duration) -> Result<WriterId, StoreError> {
        let lease_until = self.clock.now().saturating_add(millis(lease));
        let mut writer = self.writer().await?;
        let open = async {
            let mut transaction = begin_write(&mut writer).await?;
            let id = sqlx::query_scalar(OPEN).bind(lease_until).fetch_one(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(WriterId(id))
        };
        open.await.map_err(failed)
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, CommitError> {
        let mut writer = self.writer().await.map_err(|error| CommitError::Refused(error.0))?;
        let now = self.clock.now();
        commit::commit(&mut writer, batch, now, now.saturating_add(millis(batch.lease))).await
    }

    async fn renew(&self, writer: WriterId, last: Seq, lease: Duration) -> Result<bool, StoreError> {
        let lease_until = self.clock.now().saturating_add(millis(lease));
        let query = sqlx::query(RENEW).bind(writer.0).bind(last).bind(lease_until);
        let renewed = query.execute(&mut *self.writer().await?).await;
        Ok(renewed.map_err(failed)?.rows_affected() > 0)
    }

    async fn close_writer(&self, writer: WriterId) -> Result<Seq, StoreError> {
        let mut connection = self.writer().await?;
        let close = async {
            let mut transaction = begin_write(&mut connection).await?;
            let query = sqlx::query_scalar(CLOSE).bind(writer.0).bind(self.clock.now());
            let last = query.fetch_optional(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(last)
        };
        close.await.map_err(failed)?.ok_or_else(|| StoreError(NoSuchWriter(writer).into()))
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Event>, StoreError> {
        let mut found = Vec::new();
        for chunk in ids.chunks(IDS_PER_STATEMENT) {
            let select = "SELECT id, timestamp_ms, coalesce(source, ''), coalesce(kind, '') FROM events WHERE id";
            let mut query = where_in(select, chunk.iter().copied());
            let rows = query.build_query_as::<(Uuid, Millis, String, String)>().fetch_all(&self.readers).await;
            let event = |(id, timestamp_ms, source, kind): (Uuid, Millis, String, String)| Event {
                id,
                timestamp_ms,
                timestamp_assumed: false,
                source: source.into(),
                kind: kind.into(),
            };
            found.extend(rows.map_err(failed)?.into_iter().map(event));
        }
        Ok(found)
    }
}
