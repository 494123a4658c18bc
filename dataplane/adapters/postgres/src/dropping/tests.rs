//! With a real Postgres: what its tables hold while a day is dropped.

use ping_core::Retention;
use ping_ports::EventRetention;
use ping_testbed::Postgres;

use super::*;
use crate::{PostgresOptions, PostgresStore};

const NOW: Millis = 1_728_926_331_000;
/// Rows that are fetched, and so summed, at once at least.
const FETCHED: usize = 10_000;

/// Notes the largest number of segments at one place after each change of the base.
const NOTE_SEGMENTS: &str = "CREATE TABLE noted (segments bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO noted SELECT max(segments) FROM (SELECT count(*) AS segments FROM source_base GROUP BY family, node, period) AS places;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT ON source_base FOR EACH STATEMENT EXECUTE FUNCTION note()";

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn the_base_is_merged_while_a_day_is_summed() {
    let server = Postgres::start().await.unwrap();
    let url = format!("postgres://ping@127.0.0.1:{}/ping", server.port());
    let store = PostgresStore::connect(&url, &PostgresOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    let today = Day::of(NOW);
    store.move_cutoff(today, NOW).await.unwrap();
    store.prepare_days(today).await.unwrap();
    let day = Day(today.0 + 5);
    let partition = partition_name(EVENTS, day).unwrap();
    let rows = (CHUNKS_PER_MERGE + 2) * FETCHED;
    let fill = format!(
        "INSERT INTO {partition} (id, timestamp_ms, source, id_day)
        SELECT (lpad(to_hex({start}), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid, {start}, 'a', {}
        FROM generate_series(1, {rows}) AS n",
        day.0,
        start = day.start(),
    );
    let mut connection = PgConnection::connect(&url).await.unwrap();
    run(&mut connection, format!("{NOTE_SEGMENTS}; {fill}")).await.unwrap();
    let cutoffs = Retention::default().at(day.start());
    let dropped = drop_day(&mut connection, &partition, cutoffs, 1).await.unwrap();
    assert_eq!(dropped, rows as u64);
    let most = number(&mut connection, "SELECT max(segments) FROM noted").await;
    assert_eq!(most, CHUNKS_PER_MERGE as i64);
    let counted = "SELECT sum(events)::bigint FROM source_base WHERE family = 0";
    assert_eq!(number(&mut connection, counted).await, rows as i64);
}
