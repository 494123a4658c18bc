//! What open pages cost.

use std::{collections::BTreeMap, time::Duration};

use ping_testbed::{Parts, kafka::Kafka, postgres::Postgres, redis::Redis};
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::{browser::Browser, processes::Pingd};

const PAGES: usize = 10;
const OBSERVED: Duration = Duration::from_secs(10);

/// How often each statement was executed.
async fn statements(connection: &mut PgConnection) -> BTreeMap<String, i64> {
    // It would find itself.
    let query =
        "SELECT query, sum(calls)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat%' GROUP BY query";
    let rows: Vec<(String, i64)> = sqlx::query_as(query).fetch_all(connection).await.unwrap();
    rows.into_iter().collect()
}

/// How often the cache was read.
async fn reads(parts: &Parts) -> u64 {
    let client = redis::Client::open(parts.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hmget:calls=")).unwrap_or("0,");
    line.split(',').next().unwrap().parse().unwrap()
}

/// Executions of each statement, and reads of the cache, while nothing else happens.
async fn observe(parts: &Parts, connection: &mut PgConnection) -> (BTreeMap<String, i64>, u64) {
    let (before, reads_before) = (statements(connection).await, reads(parts).await);
    sleep(OBSERVED).await;
    let after = statements(connection).await;
    let executed = after.into_iter().map(|(query, calls)| {
        let calls = calls - before.get(&query).copied().unwrap_or_default();
        (query, calls)
    });
    (executed.collect(), reads(parts).await - reads_before)
}

#[tokio::test]
async fn ten_open_pages_cause_no_database_query_per_second_and_share_the_reads_of_the_cache() {
    let (postgres, kafka, redis) = tokio::join!(
        Postgres::start_with(&[("shared_preload_libraries", "pg_stat_statements")]),
        Kafka::start(),
        Redis::start()
    );
    let parts = Parts { postgres: postgres.unwrap(), kafka: kafka.unwrap(), redis: redis.unwrap() };
    let mut connection = PgConnection::connect(&parts.postgres.superuser_url()).await.unwrap();
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&mut connection).await.unwrap();
    Pingd::migrate(&parts).await;
    let (server, _processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
    server.ping(serde_json::json!({"source": "a"})).await;
    server.wait_for_count(1).await;
    let (without, _) = observe(&parts, &mut connection).await;

    let browser = Browser::start().await;
    let (_, port) = server.api.rsplit_once(':').unwrap();
    let mut one_page = 0;
    for number in 0..PAGES {
        if number > 0 {
            browser.open_window().await;
        }
        // A host name each: over HTTP/1.1 a browser has six connections per name.
        browser.open(&format!("http://page-{number}.localhost:{port}/")).await;
        browser
            .wait_for(
                "document.body.dataset.state === 'live' && document.getElementById('hour-sum').textContent === '1'",
            )
            .await;
        if number == 0 {
            one_page = observe(&parts, &mut connection).await.1;
        }
    }
    let (with, ten_pages) = observe(&parts, &mut connection).await;

    server.ping(serde_json::json!({"source": "a"})).await;
    for window in browser.windows().await {
        browser.switch_to(&window).await;
        browser.wait_for("document.getElementById('total').textContent === '2'").await;
    }
    let seconds = OBSERVED.as_secs() as i64;
    // What a processor asks all the time, it asks more or less often in ten seconds, with pages or without.
    let frequent: Vec<_> = with
        .iter()
        .map(|(query, calls)| (*calls, without.get(query).copied().unwrap_or_default(), query))
        .filter(|(with, without, _)| with - without >= seconds + without / 10)
        .collect();
    assert!(frequent.is_empty(), "statements executed once per second or more because of open pages: {frequent:#?}");
    assert!(one_page > 0 && ten_pages < one_page * 2, "{one_page} reads for one page, {ten_pages} for ten");
}
