//! Writing events.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::FromRow;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    PostgresStore,
    commit::{self, CommitMode, Outcome},
    failure::Failure,
    millis,
};
use ping_core::{Event, Millis, Seq, WriterId};
use ping_ports::{Batch, CommitError, Committed, EventStore, StoreError};

const OPEN: &str = "INSERT INTO writers (lease_until) VALUES (now() + $1 * interval '1 ms') RETURNING id";
const RENEW: &str = "UPDATE writers SET lease_until = now() + $2 * interval '1 ms' WHERE id = $1 AND open RETURNING id";
/// The row's lock makes it wait for a commit that is still running; any later one finds the fence shut.
const CLOSE: &str =
    "UPDATE writers SET open = false, closed_at = coalesce(closed_at, now()) WHERE id = $1 RETURNING last_seq";
const FIND: &str = "SELECT id, timestamp_ms, coalesce(source, ''), coalesce(kind, '') FROM events WHERE id = ANY($1)";

#[derive(Debug, thiserror::Error)]
#[error("there is no writer {0}")]
struct NoSuchWriter(WriterId);

impl PostgresStore {
    /// Commits in one manner; `None` when the writer is closed.
    async fn put(&self, batch: &Batch, manner: CommitMode) -> Result<Option<Committed>, Failure> {
        let mut held = self.writing.take().await?;
        let query = commit::statement(batch, manner);
        let answer = timeout(self.timeout, async {
            let row = query.fetch_optional(held.connection()).await?;
            row.map(|row| Outcome::from_row(&row)).transpose()
        });
        let answer = answer.await;
        let committed = |(at, known): Outcome| Committed { at, known: known.into_iter().flatten().collect() };
        Ok(held.finish(answer)?.map(committed))
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn open_writer(&self, lease: Duration) -> Result<WriterId, StoreError> {
        let mut held = self.writing.take().await?;
        let query = sqlx::query_scalar(OPEN).bind(millis(lease));
        let answer = timeout(self.timeout, query.fetch_one(held.connection())).await;
        Ok(WriterId(held.finish(answer)?))
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, CommitError> {
        if self.commit_mode.manner() == CommitMode::Optimistic {
            match self.put(batch, CommitMode::Optimistic).await {
                Err(failure) if failure.is_known_id() => self.commit_mode.use_checked(),
                outcome => return outcome?.ok_or(CommitError::Fenced),
            }
        }
        self.put(batch, CommitMode::Checked).await?.ok_or(CommitError::Fenced)
    }

    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<bool, StoreError> {
        let mut held = self.writing.take().await?;
        let query = sqlx::query(RENEW).bind(writer.0).bind(millis(lease));
        let answer = timeout(self.timeout, query.fetch_optional(held.connection())).await;
        Ok(held.finish(answer)?.is_some())
    }

    async fn close_writer(&self, writer: WriterId) -> Result<Seq, StoreError> {
        let mut held = self.writing.take().await?;
        let query = sqlx::query_scalar(CLOSE).bind(writer.0);
        let answer = timeout(self.timeout, query.fetch_optional(held.connection())).await;
        held.finish(answer)?.ok_or_else(|| StoreError(NoSuchWriter(writer).into()))
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Event>, StoreError> {
        let mut held = self.writing.take().await?;
        let query = sqlx::query_as::<_, (Uuid, Millis, String, String)>(FIND).bind(ids);
        let answer = timeout(self.timeout, query.fetch_all(held.connection())).await;
        let event = |(id, at, source, kind): (Uuid, Millis, String, String)| Event {
            id,
            timestamp_ms: at,
            timestamp_assumed: false,
            source: source.into(),
            kind: kind.into(),
        };
        Ok(held.finish(answer)?.into_iter().map(event).collect())
    }
}
