//! Writing events.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::FromRow;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    PostgresStore,
    commit::{self, CommitMode, Outcome},
    days::{NO_DAY, day_column},
    failure::Failure,
    millis,
};
use ping_core::{Event, Millis, Seq, WriterId};
use ping_ports::{Batch, CommitError, Committed, EventStore, StoreError};

const OPEN: &str = "INSERT INTO writers (lease_until) VALUES (now() + $1 * interval '1 ms') RETURNING id";
const RENEW: &str = "UPDATE writers SET lease_until = now() + $3 * interval '1 ms' WHERE id = $1 AND open AND last_seq = $2 RETURNING id";
/// The row's lock makes this wait for a commit that is still running; any later commit finds the writer closed.
const CLOSE: &str =
    "UPDATE writers SET open = false, closed_at = coalesce(closed_at, now()) WHERE id = $1 RETURNING last_seq";
/// `id_day` selects the partitions. A row of an earlier version has none.
const FIND: &str = "SELECT id, timestamp_ms, coalesce(source, ''), coalesce(kind, '') FROM events
WHERE id = ANY($1) AND id_day = ANY($2)";

#[derive(Debug, thiserror::Error)]
#[error("there is no writer {0}")]
struct NoSuchWriter(WriterId);

impl PostgresStore {
    /// Commits in `mode`; `None` when the writer is closed.
    async fn commit_in(&self, batch: &Batch, mode: CommitMode) -> Result<Option<Committed>, Failure> {
        let query = commit::statement(batch, mode).map_err(|error| Failure::NotSent(error.into()))?;
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(self.timeout, async {
            let row = query.fetch_optional(connection.get_mut()).await?;
            row.map(|row| Outcome::from_row(&row)).transpose()
        });
        let result = result.await;
        let committed = |(at, known): Outcome| Committed { at, known: known.into_iter().flatten().collect() };
        Ok(connection.finish(result)?.map(committed))
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn open_writer(&self, lease: Duration) -> Result<WriterId, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let query = sqlx::query_scalar(OPEN).bind(millis(lease));
        let result = timeout(self.timeout, query.fetch_one(connection.get_mut())).await;
        Ok(WriterId(connection.finish(result)?))
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, CommitError> {
        let mode = self.commit_mode.next_mode(batch);
        if mode != CommitMode::Checked {
            match self.commit_in(batch, mode).await {
                Err(failure) if failure.is_known_id() => self.commit_mode.use_checked(),
                outcome => return outcome?.ok_or(CommitError::Fenced),
            }
        }
        self.commit_in(batch, CommitMode::Checked).await?.ok_or(CommitError::Fenced)
    }

    async fn renew(&self, writer: WriterId, last: Seq, lease: Duration) -> Result<bool, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let query = sqlx::query(RENEW).bind(writer.0).bind(last).bind(millis(lease));
        let result = timeout(self.timeout, query.fetch_optional(connection.get_mut())).await;
        Ok(connection.finish(result)?.is_some())
    }

    async fn close_writer(&self, writer: WriterId) -> Result<Seq, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let query = sqlx::query_scalar(CLOSE).bind(writer.0);
        let result = timeout(self.timeout, query.fetch_optional(connection.get_mut())).await;
        connection.finish(result)?.ok_or_else(|| StoreError(NoSuchWriter(writer).into()))
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Event>, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let mut days: Vec<i32> = ids.iter().map(|id| day_column(*id)).chain([NO_DAY]).collect();
        days.sort_unstable();
        days.dedup();
        let query = sqlx::query_as::<_, (Uuid, Millis, String, String)>(FIND).bind(ids).bind(days);
        let result = timeout(self.timeout, query.fetch_all(connection.get_mut())).await;
        let event = |(id, timestamp_ms, source, kind): (Uuid, Millis, String, String)| Event {
            id,
            timestamp_ms,
            timestamp_assumed: false,
            source: source.into(),
            kind: kind.into(),
        };
        Ok(connection.finish(result)?.into_iter().map(event).collect())
    }
}
