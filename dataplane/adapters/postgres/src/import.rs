//! Taking over the table of the existing system.

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow, PgConnection};

use super::PostgresStore;

/// Why the table `pings` cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Its columns have other types.
    #[error(
        "the table pings has {found}, and this can import an id of type uuid, bigint, integer, smallint or text with a pinged_at of type timestamptz, timestamp (taken as UTC) or bigint (milliseconds); change the types, or rename the table to leave it out"
    )]
    Columns {
        /// What it has instead.
        found: String,
    },
    /// Some rows say nothing.
    #[error("{0} rows of the table pings have no id or no pinged_at; set or delete them, or rename the table")]
    Absent(i64),
    /// Postgres refused.
    #[error("postgres refused")]
    Postgres(#[from] sqlx::Error),
}

const COLUMNS: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name,
    (SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = c.oid AND attname = 'id' AND attnum > 0
        AND NOT attisdropped) AS id,
    (SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = c.oid AND attname = 'pinged_at' AND attnum > 0
        AND NOT attisdropped) AS pinged_at
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relname = 'pings' AND c.relkind IN ('r', 'p')";

/// A table to import.
#[derive(Debug, FromRow)]
struct Table {
    name: String,
    id: Option<String>,
    pinged_at: Option<String>,
}

impl Table {
    /// The id of a row and its time in milliseconds, as SQL.
    fn expressions(&self) -> Result<(&'static str, &'static str), ImportError> {
        let id = match self.id.as_deref() {
            Some("uuid") => "id",
            Some("bigint" | "integer" | "smallint" | "text" | "character varying") => "md5('pings:' || id)::uuid",
            _ => return Err(self.refuse()),
        };
        let at = match self.pinged_at.as_deref() {
            Some("timestamp with time zone" | "timestamp without time zone") => {
                "floor(extract(epoch FROM pinged_at) * 1000)::bigint"
            }
            Some("bigint") => "pinged_at",
            _ => return Err(self.refuse()),
        };
        Ok((id, at))
    }

    fn refuse(&self) -> ImportError {
        let column = |name: &str, found: &Option<String>| match found {
            Some(found) => format!("{name} of type {found}"),
            None => format!("no {name}"),
        };
        ImportError::Columns { found: [column("id", &self.id), column("pinged_at", &self.pinged_at)].join(" and ") }
    }
}

impl PostgresStore {
    /// Copies the rows of the existing system's table `pings` that were not copied before, if there is such a table in the
    /// current schema. They belong to no lane and never appear in the log: they are in the totals and the rollups at once.
    ///
    /// # Errors
    /// When the table is not as the existing system made it, or Postgres refuses.
    pub async fn import_pings(&self) -> Result<u64, ImportError> {
        let mut connection = self.options.connect().await?;
        let imported = match sqlx::query_as::<_, Table>(COLUMNS).fetch_optional(&mut connection).await? {
            Some(table) => import(&mut connection, &table).await?,
            None => 0,
        };
        connection.close().await?;
        Ok(imported)
    }
}

async fn import(connection: &mut PgConnection, table: &Table) -> Result<u64, ImportError> {
    let (id, at) = table.expressions()?;
    let name = &table.name;
    let mut transaction = connection.begin().await?;
    // Nothing new is the usual answer, and needs no lock.
    let missing = format!(
        "(SELECT {id} AS id, {at} AS timestamp_ms FROM {name}) AS ping
        WHERE NOT EXISTS (SELECT FROM events e WHERE e.id = ping.id)"
    );
    let any = AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {missing})"));
    if !sqlx::query_scalar::<_, bool>(any).fetch_one(&mut *transaction).await? {
        return Ok(0);
    }
    // Its writers wait until we are done, and other importers too.
    let lock = AssertSqlSafe(format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"));
    sqlx::query(lock).execute(&mut *transaction).await?;
    let absent = AssertSqlSafe(format!("SELECT count(*) FROM {name} WHERE id IS NULL OR pinged_at IS NULL"));
    let absent = sqlx::query_scalar::<_, i64>(absent).fetch_one(&mut *transaction).await?;
    if absent > 0 {
        return Err(ImportError::Absent(absent));
    }
    let copy = AssertSqlSafe(format!(
        "WITH inserted AS (
            INSERT INTO events (id, timestamp_ms) SELECT id, timestamp_ms FROM {missing}
            ON CONFLICT (id) DO NOTHING RETURNING timestamp_ms),
        fresh AS MATERIALIZED (SELECT timestamp_ms AS at, count(*) AS n FROM inserted GROUP BY 1),
        counted AS (INSERT INTO millisecond_counts (timestamp_ms, count) SELECT at, n FROM fresh),
        rolled AS (
            INSERT INTO rollups AS r (width_minutes, bucket, writer, count, touched_at)
            SELECT 1, at / 60000, 0, sum(n)::bigint, now() FROM fresh GROUP BY 2
            UNION ALL SELECT 1440, at / 86400000, 0, sum(n)::bigint, now() FROM fresh GROUP BY 2
            ON CONFLICT (width_minutes, bucket, writer)
            DO UPDATE SET count = r.count + excluded.count, touched_at = excluded.touched_at),
        moved AS (UPDATE writers SET total = total + (SELECT coalesce(sum(n), 0) FROM fresh)::bigint WHERE id = 0)
        SELECT coalesce(sum(n), 0)::bigint FROM fresh"
    ));
    let imported = sqlx::query_scalar::<_, i64>(copy).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(imported.unsigned_abs())
}
