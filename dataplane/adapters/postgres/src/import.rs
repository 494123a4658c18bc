//! Importing the table `pings` of the existing system.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{ConnectError, PostgresStore};
use ping_sql::SqlError;

/// Why the table `pings` cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A column is missing or has a type that cannot be imported.
    #[error(
        "the table pings has {found}; supported are an id of type uuid, bigint, integer, smallint or text and a pinged_at of type timestamptz, timestamp (taken as UTC) or bigint (milliseconds); change the types, or rename the table to skip the import"
    )]
    Columns {
        /// The columns and types that were found.
        found: String,
    },
    /// Some rows lack an id or a time.
    #[error(
        "{0} rows of the table pings have no id or no pinged_at; set or delete them, or rename the table to skip the import"
    )]
    MissingValues(i64),
    /// Postgres cannot be reached, or rejects the login.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error(transparent)]
    Postgres(#[from] SqlError),
}

const COLUMNS: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name,
    (SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = c.oid AND attname = 'id' AND attnum > 0
        AND NOT attisdropped) AS id,
    (SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = c.oid AND attname = 'pinged_at' AND attnum > 0
        AND NOT attisdropped) AS pinged_at
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relname = 'pings' AND c.relkind IN ('r', 'p')";

/// The table to import.
#[derive(Debug)]
struct Table {
    name: String,
    id: Option<String>,
    pinged_at: Option<String>,
}

ping_sql::from_row!(Table of sqlx::postgres::PgRow { name, id, pinged_at });

impl Table {
    /// SQL expressions for the id of a row and for its time in milliseconds.
    fn expressions(&self) -> Result<(&'static str, &'static str), ImportError> {
        let id = match self.id.as_deref() {
            Some("uuid") => "id",
            Some("bigint" | "integer" | "smallint" | "text" | "character varying") => "md5('pings:' || id)::uuid",
            _ => return Err(self.unsupported()),
        };
        let timestamp_ms = match self.pinged_at.as_deref() {
            Some("timestamp with time zone" | "timestamp without time zone") => {
                "floor(extract(epoch FROM pinged_at) * 1000)::bigint"
            }
            Some("bigint") => "pinged_at",
            _ => return Err(self.unsupported()),
        };
        Ok((id, timestamp_ms))
    }

    fn unsupported(&self) -> ImportError {
        let column = |name: &str, found: &Option<String>| match found {
            Some(found) => format!("{name} of type {found}"),
            None => format!("no {name}"),
        };
        ImportError::Columns { found: [column("id", &self.id), column("pinged_at", &self.pinged_at)].join(" and ") }
    }
}

impl PostgresStore {
    /// Copies the rows of the existing system's table `pings` that were not copied before, if the current schema has such a
    /// table. The rows belong to no writer and never appear in the log; the totals and rollups include them at once. Returns how
    /// many were copied.
    ///
    /// # Errors
    /// When the table has columns that cannot be imported, or Postgres fails.
    pub async fn import_pings(&self) -> Result<u64, ImportError> {
        let mut connection = self.connector.connect("").await?;
        let imported = import(&mut connection).await?;
        connection.close().await.map_err(SqlError)?;
        Ok(imported)
    }
}

async fn import(connection: &mut PgConnection) -> Result<u64, ImportError> {
    let table = sqlx::query_as::<_, Table>(COLUMNS).fetch_optional(&mut *connection).await.map_err(SqlError)?;
    let Some(table) = table else { return Ok(0) };
    let (id, timestamp_ms) = table.expressions()?;
    let name = &table.name;
    let missing = format!(
        "(SELECT {id} AS id, {timestamp_ms} AS timestamp_ms FROM {name}) AS ping
        WHERE NOT EXISTS (SELECT FROM events e WHERE e.id = ping.id)
            AND event_id_day(id) NOT BETWEEN 0 AND coalesce((SELECT first_day FROM event_retention), 0) - 1"
    );
    match copy(connection, name, &missing).await.map_err(SqlError)? {
        Copied::Rows(count) => Ok(count),
        Copied::MissingValues(count) => Err(ImportError::MissingValues(count)),
    }
}

/// The result of copying.
enum Copied {
    Rows(u64),
    /// Nothing was copied: this many rows lack an id or a time.
    MissingValues(i64),
}

/// Copies the rows `missing` from the table `name`.
async fn copy(connection: &mut PgConnection, name: &str, missing: &str) -> Result<Copied, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // Usually nothing is new, and finding that out needs no lock.
    let any = AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {missing})"));
    if !sqlx::query_scalar::<_, bool>(any).fetch_one(&mut *transaction).await? {
        return Ok(Copied::Rows(0));
    }
    // Blocks writers of the table and other importers until the end.
    let lock = AssertSqlSafe(format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"));
    sqlx::query(lock).execute(&mut *transaction).await?;
    let incomplete = AssertSqlSafe(format!("SELECT count(*) FROM {name} WHERE id IS NULL OR pinged_at IS NULL"));
    let incomplete = sqlx::query_scalar::<_, i64>(incomplete).fetch_one(&mut *transaction).await?;
    if incomplete > 0 {
        return Ok(Copied::MissingValues(incomplete));
    }
    let copy = AssertSqlSafe(format!(
        "WITH inserted AS (
            INSERT INTO events (id, timestamp_ms, id_day) SELECT id, timestamp_ms, event_id_day(id) FROM {missing}
            ON CONFLICT DO NOTHING RETURNING timestamp_ms),
        new_counts AS MATERIALIZED (SELECT timestamp_ms, count(*) AS count FROM inserted GROUP BY 1),
        insert_millisecond_counts AS (
            INSERT INTO millisecond_counts (timestamp_ms, count) SELECT timestamp_ms, count FROM new_counts),
        add_to_rollups AS (
            INSERT INTO rollups AS r (width_minutes, bucket, writer, count, attributed, touched_at)
            SELECT 1, timestamp_ms / 60000, 0, sum(count)::bigint, 0, now() FROM new_counts GROUP BY 2
            UNION ALL SELECT 1440, timestamp_ms / 86400000, 0, sum(count)::bigint, 0, now() FROM new_counts GROUP BY 2
            ON CONFLICT (width_minutes, bucket, writer)
            DO UPDATE SET count = r.count + excluded.count, touched_at = excluded.touched_at),
        add_to_total AS (
            UPDATE writers SET total = total + (SELECT coalesce(sum(count), 0) FROM new_counts)::bigint WHERE id = 0)
        SELECT coalesce(sum(count), 0)::bigint FROM new_counts"
    ));
    let copied = sqlx::query_scalar::<_, i64>(copy).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Copied::Rows(copied.unsigned_abs()))
}
