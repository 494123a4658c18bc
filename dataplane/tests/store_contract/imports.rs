//! The existing system's table is imported: every row once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ping_core::{Event, TimeRange};
use ping_ports::{EventStore, TotalsStore};
use ping_postgres::{PostgresOptions, PostgresStore};
use ping_testbed::Postgres;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::fixture::{THEN, batch, database, event};

struct Existing {
    store: Arc<PostgresStore>,
    tables: PgConnection,
    _server: Arc<Postgres>,
}

/// A database prepared with `sql`.
async fn existing(sql: &str) -> Existing {
    let (server, url) = database().await;
    let mut tables = PgConnection::connect(&url).await.unwrap();
    tables.execute(AssertSqlSafe(sql)).await.unwrap();
    let store = Arc::new(PostgresStore::connect(&url, &PostgresOptions::default()).await.unwrap());
    Existing { store, tables, _server: server }
}

async fn assert_count(store: &PostgresStore, count: i64) {
    let recount = store.recount().await.unwrap();
    let sums = [recount.rows, recount.total, recount.minutes_total, recount.days_total];
    assert_eq!((sums, recount.differing_minutes), ([count; 4], vec![]));
}

async fn refusal(sql: &str) -> String {
    let error = existing(sql).await.store.migrate().await.unwrap_err();
    std::error::Error::source(&error).unwrap().to_string()
}

#[tokio::test]
async fn a_hundred_thousand_rows_are_imported_once() {
    let mut existing = existing(
        "CREATE TABLE pings (id bigserial PRIMARY KEY, pinged_at timestamptz NOT NULL);
        INSERT INTO pings (pinged_at) SELECT to_timestamp(1728926331 + n * 7.25) FROM generate_series(1, 100000) AS n",
    )
    .await;
    assert_eq!(existing.store.migrate().await.unwrap(), 100_000);
    assert_count(&existing.store, 100_000).await;
    let range = TimeRange::new(THEN + 7_250, THEN + 7_250 * 1_001).unwrap();
    assert_eq!(existing.store.count(Some(range)).await.unwrap().count, 1_000);
    assert_eq!(existing.store.migrate().await.unwrap(), 0);
    existing.tables.execute("INSERT INTO pings (pinged_at) VALUES (now()), (now())").await.unwrap();
    assert_eq!(existing.store.import_pings().await.unwrap(), 2);
    assert_count(&existing.store, 100_002).await;
    assert_eq!(existing.store.count(None).await.unwrap().count, 100_002);
}

#[tokio::test]
async fn every_supported_column_type_is_imported() {
    let types = ["timestamptz", "timestamp", "bigint"];
    let values = ["to_timestamp(1728926331.25)", "to_timestamp(1728926331.25) AT TIME ZONE 'UTC'", "1728926331250"];
    for (pinged_at, value) in types.into_iter().zip(values) {
        for id in ["bigint", "int", "smallint", "text", "varchar(40)"] {
            let sql = format!("CREATE TABLE pings (id {id}, pinged_at {pinged_at}); SET timezone = 'Asia/Tokyo'");
            let insert = format!("INSERT INTO pings VALUES ('1', {value}), ('2', {value})");
            let existing = existing(&[sql, insert].join(";")).await;
            assert_eq!(existing.store.migrate().await.unwrap(), 2, "{id} {pinged_at}");
            let range = TimeRange::new(THEN + 250, THEN + 251).unwrap();
            assert_eq!(existing.store.count(Some(range)).await.unwrap().count, 2, "{id} {pinged_at}");
        }
    }
}

#[tokio::test]
async fn a_uuid_is_kept_and_not_counted_again() {
    let sql = "CREATE TABLE pings (id uuid PRIMARY KEY, pinged_at bigint NOT NULL);
        INSERT INTO pings VALUES ('00000000-0000-0000-0000-000000000001', 1728926331000),
            ('00000000-0000-0000-0000-000000000002', 1728926331000)";
    let existing = existing(sql).await;
    assert_eq!(existing.store.migrate().await.unwrap(), 2);
    let writer = existing.store.open_writer(std::time::Duration::from_secs(60)).await.unwrap();
    let new = existing.store.commit(&batch(writer, 1, vec![event(2, THEN), event(3, THEN)])).await.unwrap();
    assert_eq!(new.known, [Uuid::from_u128(2)].into());
    let found: Vec<Event> = existing.store.find(&[Uuid::from_u128(1)]).await.unwrap();
    assert_eq!(found, [event(1, THEN)]);
    assert_count(&existing.store, 3).await;
}

#[tokio::test]
async fn unsupported_columns_are_refused_with_an_explanation() {
    let text = refusal("CREATE TABLE pings (id bigint, pinged_at date)").await;
    assert!(text.contains("id of type bigint and pinged_at of type date") && text.contains("timestamptz"), "{text}");
    let text = refusal("CREATE TABLE pings (key text, pinged_at bigint)").await;
    assert!(text.contains("no id and pinged_at of type bigint"), "{text}");
    let sql = "CREATE TABLE pings (id int, pinged_at bigint); INSERT INTO pings VALUES (1, NULL), (2, 1728926331000)";
    let text = refusal(sql).await;
    assert!(text.contains("1 rows of the table pings"), "{text}");
}

#[tokio::test]
async fn replicas_may_start_at_once() {
    let sql = "CREATE TABLE pings (id serial PRIMARY KEY, pinged_at timestamptz DEFAULT now());
        INSERT INTO pings SELECT FROM generate_series(1, 5000)";
    let existing = existing(sql).await;
    let starts = (0..6).map(|_| existing.store.migrate());
    let imported: Vec<_> = futures::future::join_all(starts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(imported.iter().sum::<u64>(), 5_000);
    assert_count(&existing.store, 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_written_meanwhile_are_imported_now_or_next_time() {
    let mut existing =
        existing("CREATE TABLE pings (id serial PRIMARY KEY, pinged_at timestamptz DEFAULT now())").await;
    existing.store.migrate().await.unwrap();
    let ready = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&ready);
    let writing = tokio::spawn(async move {
        let mut rows = 0;
        while !done.load(Ordering::Relaxed) {
            existing.tables.execute("INSERT INTO pings SELECT FROM generate_series(1, 100)").await.unwrap();
            rows += 100;
        }
        rows
    });
    let mut imported = 0;
    while imported < 3_000 {
        imported += existing.store.import_pings().await.unwrap();
    }
    ready.store(true, Ordering::Relaxed);
    let rows = writing.await.unwrap();
    imported += existing.store.import_pings().await.unwrap();
    assert_eq!(imported, rows);
    assert_count(&existing.store, i64::try_from(rows).unwrap()).await;
}
