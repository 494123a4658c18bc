//! Schema migrations. Every server runs them at its start.

use ping_sql::migrator;
use sqlx::Connection;

use super::{ConnectError, ImportError, PostgresStore};

const MIGRATIONS: [(i64, &str, &str); 10] = [
    (1, "schema", include_str!("../migrations/0001_schema.sql")),
    (2, "sources", include_str!("../migrations/0002_sources.sql")),
    (3, "quotas", include_str!("../migrations/0003_quotas.sql")),
    (4, "segments", include_str!("../migrations/0004_segments.sql")),
    (7, "pings", include_str!("../migrations/0007_pings.sql")),
    (8, "incarnations", include_str!("../migrations/0008_incarnations.sql")),
    (9, "view audit", include_str!("../migrations/0009_view_audit.sql")),
    (10, "event retention", include_str!("../migrations/0010_event_retention.sql")),
    (11, "incarnation changes", include_str!("../migrations/0011_incarnation_changes.sql")),
    (12, "export in parts", include_str!("../migrations/0012_export_in_parts.sql")),
];

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Postgres cannot be reached, or rejects the login.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A migration failed, or differs from the one that was applied under its number.
    // No source: sqlx repeats it in its own text.
    #[error("cannot migrate the Postgres schema: {0}")]
    Schema(sqlx::migrate::MigrateError),
    /// The existing system's table could not be imported.
    #[error("cannot import the table pings")]
    Import(#[source] ImportError),
}

impl PostgresStore {
    /// Applies missing migrations, then imports the existing system's table; returns how many of its rows were new. Any number
    /// of replicas may call this at once: one does the work, the others wait for it. Migrations of a later version are ignored,
    /// so that a program can be rolled back.
    ///
    /// # Errors
    /// When Postgres cannot be reached, a migration fails, or the table `pings` has columns that cannot be imported.
    pub async fn migrate(&self) -> Result<u64, MigrateError> {
        let mut connection = self.connector.connect("").await?;
        // Not `run`: its future is not Send, which would rule out migrating in a background task.
        let migrated = migrator(&MIGRATIONS).run_direct(None, &mut connection, false).await;
        migrated.map_err(MigrateError::Schema)?;
        // The session holds the migration lock until it ends.
        let _ = connection.close().await;
        match self.import_pings().await {
            Err(ImportError::Connect(error)) => Err(MigrateError::Connect(error)),
            imported => imported.map_err(MigrateError::Import),
        }
    }
}
