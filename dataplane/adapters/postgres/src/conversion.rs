//! Partitions the tables of events and of counts per millisecond while events are committed.
//!
//! The existing tables become the partitions of all days before a cutover, which lies in the future. Checking that they fit takes the time
//! of reading them, with a lock that commits do not notice; taking their place takes milliseconds. A conversion that was interrupted is
//! continued by the next call.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::event_tables::{EVENTS, LOCK_RETENTION, LONG_LOCK, MILLISECONDS, RetentionRow, SHORT_LOCK, run, state};
use super::partitions::create;
use ping_core::{Day, ids_since};

/// Days from today to the cutover. Ids and times are up to one day ahead, so a conversion may take until the end of the next day.
const DAYS_TO_CUTOVER: i64 = 3;
/// A cutover that is nearer is replaced by a new one.
const MIN_DAYS_TO_CUTOVER: i64 = 2;

/// Not before the last time that was counted, should a clock have been wrong.
const SET_CUTOVER: &str = "UPDATE event_retention
SET cutover_day = greatest($1, (SELECT max(timestamp_ms) / 86400000 + 1 FROM millisecond_counts)::int)
WHERE NOT partitioned RETURNING cutover_day";
/// The constraint of `table` for the cutover, if it exists, and whether it is validated.
const CONSTRAINT: &str = "SELECT convalidated FROM pg_constraint WHERE conrelid = $1::regclass AND conname = $2";
const CONSTRAINTS: &str = "SELECT conname::text FROM pg_constraint
WHERE conrelid = $1::regclass AND (conname LIKE $1 || '\\_until\\_%' OR conname = $1 || '_dated')";
/// Marks ids from the cutover on, which are ahead of the clocks: until they can be moved, they fit like ids without a day.
const MARK_LATER: &str = "UPDATE events SET id_day = -2 WHERE id >= $1 AND id < $2 AND id_day >= $3";
/// Those ids, also in rows of earlier versions, which did not say their days.
const LATER_IDS: &str = "SELECT id FROM events WHERE id >= $1 AND id < $2 AND event_id_day(id) >= $3";
const MOVE_LATER: &str = "WITH moved AS (DELETE FROM events_before WHERE id = ANY($1) RETURNING id, timestamp_ms, source, kind)
INSERT INTO events_rest (id, timestamp_ms, source, kind, id_day) SELECT id, timestamp_ms, source, kind, event_id_day(id) FROM moved";
/// Views over the tables: they would follow the tables when those are renamed.
const VIEWS: &str = "SELECT DISTINCT c.oid::regclass::text, pg_get_viewdef(c.oid) FROM pg_depend d
JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass JOIN pg_class c ON c.oid = r.ev_class
WHERE d.refobjid IN ('events'::regclass, 'millisecond_counts'::regclass) AND c.relkind = 'v'";
/// Statements that give others than the owner the same privileges on the new tables.
const GRANTS: &str = "SELECT format('GRANT %s ON %I TO %s', a.privilege_type, c.relname,
    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
FROM pg_class c, aclexplode(c.relacl) a
WHERE c.oid IN ('events'::regclass, 'millisecond_counts'::regclass) AND a.grantee <> c.relowner";
const PARTITIONED: &str = "UPDATE event_retention SET partitioned = true";

/// Partitions the tables, unless that was done.
pub(super) async fn convert(connection: &mut PgConnection, row: RetentionRow, today: Day) -> Result<(), sqlx::Error> {
    let cutover = choose_cutover(connection, row, today).await?;
    let bounds = [(EVENTS, "id_day", cutover.0), (MILLISECONDS, "timestamp_ms", cutover.start())];
    for (table, column, bound) in bounds {
        constrain(connection, table, &format!("{table}_until_{}", cutover.0), &format!("{column} < {bound}")).await?;
    }
    let (from, to) = ids_since(cutover);
    sqlx::query(MARK_LATER).bind(from).bind(to).bind(cutover.0).execute(&mut *connection).await?;
    for (table, ..) in bounds {
        validate(connection, table, &format!("{table}_until_{}", cutover.0)).await?;
    }
    // The constraints admit no more of them.
    let later = sqlx::query_scalar::<_, Uuid>(LATER_IDS).bind(from).bind(to).bind(cutover.0);
    let later = later.fetch_all(&mut *connection).await?;
    replace_tables(connection, cutover, &later).await
}

async fn choose_cutover(connection: &mut PgConnection, row: RetentionRow, today: Day) -> Result<Day, sqlx::Error> {
    let chosen = row.cutover_day.map(|day| Day(day.into())).filter(|day| day.0 >= today.0 + MIN_DAYS_TO_CUTOVER);
    if let Some(cutover) = chosen {
        return Ok(cutover);
    }
    // The days of a calendar fit.
    let cutover = i32::try_from(today.0 + DAYS_TO_CUTOVER).unwrap_or(i32::MAX);
    let set = sqlx::query_scalar::<_, i32>(SET_CUTOVER).bind(cutover).fetch_optional(connection).await?;
    Ok(Day(set.unwrap_or(cutover).into()))
}

/// Makes `table` refuse what does not fit, without looking at what it has. Rows of events must also say the day of their ids.
async fn constrain(connection: &mut PgConnection, table: &str, name: &str, condition: &str) -> Result<(), sqlx::Error> {
    let exists: Option<bool> =
        sqlx::query_scalar(CONSTRAINT).bind(table).bind(name).fetch_optional(&mut *connection).await?;
    if exists.is_some() {
        return Ok(());
    }
    let mut changes = drop_constraints(connection, table).await?;
    if table == EVENTS {
        changes.push(
            "ADD CONSTRAINT events_dated CHECK (id_day >= 0 OR id_day = -2 OR event_id_day(id) = -1) NOT VALID".into(),
        );
    }
    changes.push(format!("ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"));
    let mut transaction = connection.begin().await?;
    run(&mut transaction, format!("{SHORT_LOCK}; ALTER TABLE {table} {}", changes.join(", "))).await?;
    transaction.commit().await
}

/// Clauses that drop the constraints of a conversion of `table`.
async fn drop_constraints(connection: &mut PgConnection, table: &str) -> Result<Vec<String>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(CONSTRAINTS).bind(table).fetch_all(connection).await?;
    Ok(names.into_iter().map(|name| format!("DROP CONSTRAINT {name}")).collect())
}

/// Reads all rows of `table` if that was not done. Commits go on meanwhile.
async fn validate(connection: &mut PgConnection, table: &str, name: &str) -> Result<(), sqlx::Error> {
    let validated: bool = sqlx::query_scalar(CONSTRAINT).bind(table).bind(name).fetch_one(&mut *connection).await?;
    if validated {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    run(&mut transaction, format!("{LONG_LOCK}; ALTER TABLE {table} VALIDATE CONSTRAINT {name}")).await?;
    transaction.commit().await
}

/// Puts partitioned tables in the place of the tables, which become their first partitions.
async fn replace_tables(connection: &mut PgConnection, cutover: Day, later: &[Uuid]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    run(&mut transaction, format!("{SHORT_LOCK}; {LOCK_RETENTION}")).await?;
    if state(&mut transaction).await?.partitioned {
        return transaction.rollback().await;
    }
    run(&mut transaction, format!("LOCK TABLE {EVENTS}, {MILLISECONDS} IN ACCESS EXCLUSIVE MODE")).await?;
    let views: Vec<(String, String)> = sqlx::query_as(VIEWS).fetch_all(&mut *transaction).await?;
    let grants: Vec<String> = sqlx::query_scalar(GRANTS).fetch_all(&mut *transaction).await?;
    let mut statements = String::new();
    for (table, column, bound) in [(EVENTS, "id_day", cutover.0), (MILLISECONDS, "timestamp_ms", cutover.start())] {
        let (before, rest) = (format!("{table}_before"), format!("{table}_rest"));
        let constraints = drop_constraints(&mut transaction, table).await?.join(", ");
        // No column has a default: a server of an earlier version, which does not say the day of an id, is refused.
        statements += &format!(
            "ALTER TABLE {table} RENAME TO {before};
            CREATE TABLE {table} (LIKE {before}) PARTITION BY RANGE ({column});
            ALTER TABLE {table} ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ({bound});
            ALTER TABLE {before} {constraints}; {}
            ALTER TABLE {table} ATTACH PARTITION {rest} DEFAULT;",
            create(table, &before, &rest)
        );
    }
    for (name, definition) in views {
        statements += &format!("CREATE OR REPLACE VIEW {name} AS {definition};");
    }
    for grant in grants {
        statements += &format!("{grant};");
    }
    run(&mut transaction, statements).await?;
    if !later.is_empty() {
        sqlx::query(MOVE_LATER).bind(later).execute(&mut *transaction).await?;
    }
    sqlx::query(PARTITIONED).execute(&mut *transaction).await?;
    transaction.commit().await
}
