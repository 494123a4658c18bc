//! Well-known queries over `pings (id, pinged_at)` work in new databases.

use std::sync::Arc;

use ping_memory::SystemClock;
use ping_ports::EventStore;
use ping_postgres::{PostgresOptions, PostgresStore};
use ping_sqlite::SqliteStore;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, sqlite::SqliteConnectOptions};

use crate::fixture::{LEASE, THEN, batch, database, event};

async fn commit_two(store: &impl EventStore) {
    let writer = store.open_writer(LEASE).await.unwrap();
    store.commit(&batch(writer, 1, vec![event(0xABC, THEN + 7), event(2, THEN + 3_600_000)])).await.unwrap();
}

#[tokio::test]
async fn a_new_postgres_has_them() {
    let (_server, url) = database().await;
    let store = PostgresStore::connect(&url, &PostgresOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    commit_two(&store).await;
    let mut tables = PgConnection::connect(&url).await.unwrap();
    let query = "SELECT id::text, to_char(pinged_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') FROM pings
        WHERE pinged_at BETWEEN '2024-10-14 17:18:51+00' AND '2024-10-14 17:19:00+00'";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&mut tables).await.unwrap();
    assert_eq!(rows, [("00000000-0000-0000-0000-000000000abc".into(), "2024-10-14 17:18:51.007000".into())]);
    // The view is not taken for a table to import.
    assert_eq!(store.migrate().await.unwrap(), 0);
    let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM pings").fetch_one(&mut tables).await.unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn an_existing_table_stays() {
    let (_server, url) = database().await;
    let mut tables = PgConnection::connect(&url).await.unwrap();
    let existing = "CREATE TABLE pings (id bigserial PRIMARY KEY, pinged_at timestamptz NOT NULL);
        INSERT INTO pings (pinged_at) VALUES (now())";
    tables.execute(existing).await.unwrap();
    let store = PostgresStore::connect(&url, &PostgresOptions::default()).await.unwrap();
    assert_eq!(store.migrate().await.unwrap(), 1);
    commit_two(&store).await;
    let count = "SELECT count(*) FROM pings";
    let (rows,): (i64,) = sqlx::query_as(count).fetch_one(&mut tables).await.unwrap();
    assert_eq!(rows, 1);
    // The guide says how the view takes its place.
    for sql in sql_of("docs/how-to/migrate.md").into_iter().chain(sql_of("docs/how-to/storage.md")) {
        tables.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let (rows,): (i64,) = sqlx::query_as(count).fetch_one(&mut tables).await.unwrap();
    assert_eq!(rows, 3);
    assert_eq!(store.migrate().await.unwrap(), 0);
}

/// The blocks of SQL in a page of the documentation.
fn sql_of(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{}/../../{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let blocks = text.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    let blocks: Vec<_> = blocks.collect();
    assert!(!blocks.is_empty(), "{page} has no SQL");
    blocks
}

#[tokio::test]
async fn a_new_sqlite_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ping.db");
    let store = SqliteStore::open(&path, Arc::new(SystemClock)).await.unwrap();
    commit_two(&store).await;
    let mut tables = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let query = "SELECT id, pinged_at FROM pings WHERE pinged_at < datetime('2024-10-14 17:19:00')";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&mut tables).await.unwrap();
    assert_eq!(rows, [("00000000-0000-0000-0000-000000000abc".into(), "2024-10-14 17:18:51.007".into())]);
}
