//! Statements that read rows.

use sqlx::{
    Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};
use tokio::time::timeout;

use super::{PostgresStore, connections::ACQUIRE_TIMEOUT, failure::Failure, totals::LARGE_READ_TIMEOUT};
use ping_ports::StoreError;

impl PostgresStore {
    pub(super) async fn rows<T>(&self, query: QueryAs<'static, Postgres, T, PgArguments>) -> Result<Vec<T>, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let mut connection = self.read_pool.acquire().await?;
        let result = timeout(LARGE_READ_TIMEOUT, query.fetch_all(connection.get_mut())).await;
        Ok(connection.finish(result)?)
    }

    /// As `rows`, for a statement that reads many rows.
    pub(super) async fn rows_of_large_read<T>(
        &self,
        query: QueryAs<'static, Postgres, T, PgArguments>,
    ) -> Result<Vec<T>, StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let waited = timeout(ACQUIRE_TIMEOUT, self.large_reads.acquire()).await;
        let _permit = match waited {
            Ok(permit) => permit.map_err(|closed| Failure::NotSent(closed.into()))?,
            Err(_) => return Err(Failure::NotSent(self.read_pool.timed_out().into()).into()),
        };
        self.rows(query).await
    }
}
