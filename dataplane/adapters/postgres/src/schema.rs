//! The schema, brought up to date by whoever starts first.

use sqlx::{ConnectOptions, Connection, migrate::Migrator};

use super::{ImportError, PostgresStore};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Why the schema is not as we need it.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Postgres did not let us in.
    #[error("no connection for the migrations")]
    Connect(#[source] sqlx::Error),
    /// A migration failed, or is not the one that was applied.
    #[error("the schema could not be migrated")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// The existing system's table could not be taken over.
    #[error("the table pings could not be imported")]
    Import(#[from] ImportError),
}

impl PostgresStore {
    /// Applies the migrations that are missing, then takes over the existing system's table; returns how many of its rows were
    /// new. Any number of replicas may do it at once: one does the work, the others wait for it. Migrations of a later version
    /// are left alone, so that a program can be rolled back.
    ///
    /// # Errors
    /// When Postgres refuses, or the table `pings` is not as the existing system made it.
    pub async fn migrate(&self) -> Result<u64, MigrateError> {
        let mut connection = self.options.connect().await.map_err(MigrateError::Connect)?;
        let mut migrator = Migrator { migrations: MIGRATOR.migrations.clone(), ..Migrator::DEFAULT };
        // Not `run`: its future is not Send, so that nobody could migrate in the background.
        migrator.set_ignore_missing(true).run_direct(None, &mut connection, false).await?;
        // Its session would hold the lock of the migrations if it stayed.
        let _ = connection.close().await;
        Ok(self.import_pings().await?)
    }
}
