//! Someone edits the counts of a source in the database while events arrive: this is reported, and repaired within a minute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ping_memory::SystemClock;
use ping_ports::Clock;
use ping_segments::{Family, Node, Place, merge};
use serde_json::json;
use sqlx::{ConnectOptions, Connection, PgConnection, sqlite::SqliteConnectOptions};
use tokio::{
    task::JoinHandle,
    time::{Duration, sleep},
};

use crate::{
    processes::{Pingd, pipeline},
    sources::wait_for_rows,
};

/// What the issue promises.
const A_MINUTE: Duration = Duration::from_secs(60);
const SOURCES: usize = 20;

/// Sends events of all sources in turn until it is told to stop; then returns how many each source has sent.
fn traffic(server: Arc<Pingd>, stop: Arc<AtomicBool>) -> JoinHandle<i64> {
    tokio::spawn(async move {
        let mut rounds = 0;
        while !stop.load(Ordering::SeqCst) {
            for source in 0..SOURCES {
                server.record(&format!("source-{source}"), "seen", SystemClock.now()).await;
            }
            rounds += 1;
        }
        rounds
    })
}

/// Waits until `PingCount` says whether the views differ.
async fn wait_for_difference(server: &Pingd, differ: bool, since: Instant) {
    loop {
        let (_, answer) = server.call("PingCount", &json!({})).await.unwrap();
        assert_eq!(answer["exact"], true, "the total is not affected: {answer}");
        if answer.get("viewsDiffer").is_some_and(|differs| differs == true) == differ {
            println!("views differ: {differ}, after {:?}", since.elapsed());
            return;
        }
        assert!(since.elapsed() < A_MINUTE, "views differ: not {differ}: {answer}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the processor has found that many differences.
async fn wait_for_drifts(processor: &Pingd, drifts: f64, since: Instant) {
    while processor.metric("ping_views_drifts_total").await < drifts {
        assert!(since.elapsed() < A_MINUTE, "not found\n{}", processor.log_tail());
        sleep(Duration::from_millis(100)).await;
    }
}

/// Doubles the counts in the newest segment of all kinds.
async fn double_a_segment(connection: &mut PgConnection) {
    let mut transaction = connection.begin().await.unwrap();
    let newest = "SELECT id, node, data FROM source_segments WHERE family = 0 ORDER BY id DESC LIMIT 1 FOR UPDATE";
    let (id, node, data): (i64, i32, Vec<u8>) = sqlx::query_as(newest).fetch_one(&mut *transaction).await.unwrap();
    let place = Place { family: Family::Kinds, node: Node(node), period: 0 };
    let doubled = merge(place, [data.as_slice(), data.as_slice()]).unwrap();
    let update = sqlx::query("UPDATE source_segments SET data = $2 WHERE id = $1").bind(id).bind(&doubled[0].data);
    assert_eq!(update.execute(&mut *transaction).await.unwrap().rows_affected(), 1);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn edited_counts_are_reported_and_repaired_within_a_minute() {
    let (parts, server, processor) = pipeline().await;
    let (server, stop) = (Arc::new(server), Arc::new(AtomicBool::new(false)));
    let sending = traffic(Arc::clone(&server), Arc::clone(&stop));
    let mut connection = PgConnection::connect(&parts.postgres.url()).await.unwrap();
    while server.query("SourceStats", json!({"source": "source-0"})).await["count"] == "0" {
        sleep(Duration::from_millis(100)).await;
    }
    let rebuilds = processor.metric("ping_views_rebuilds_total").await;
    for (found, edit) in [
        None,
        Some("UPDATE source_windows SET count = count + 3 WHERE source = 'source-7'"),
        Some("DELETE FROM source_segments WHERE family = 2"),
    ]
    .into_iter()
    .enumerate()
    {
        wait_for_rows(&parts.postgres.url()).await;
        match edit {
            None => double_a_segment(&mut connection).await,
            Some(edit) => assert!(sqlx::query(edit).execute(&mut connection).await.unwrap().rows_affected() > 0),
        }
        let edited = Instant::now();
        wait_for_difference(&server, true, edited).await;
        wait_for_drifts(&processor, found as f64 + 1.0, edited).await;
        wait_for_difference(&server, false, edited).await;
    }
    stop.store(true, Ordering::SeqCst);
    let rounds = sending.await.unwrap();
    for source in 0..SOURCES {
        server.wait_for_source(&format!("source-{source}"), rounds).await;
    }
    wait_for_rows(&parts.postgres.url()).await;
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT source, sum(ping_count)::bigint, (SELECT sum(ping_count)::bigint FROM daily_stats d WHERE d.source = w.source)
        FROM window_stats w GROUP BY source",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(rows.len(), SOURCES);
    assert!(rows.iter().all(|(_, windows, days)| (*windows, *days) == (rounds, rounds)), "{rounds}: {rows:?}");
    assert_eq!(processor.metric("ping_views_rebuilds_total").await - rebuilds, 3.0);
    assert_eq!(processor.metric("ping_count_drifts_total").await, 0.0);
    assert!(processor.metric("ping_views_audits_total").await > 0.0);
}

#[tokio::test]
async fn the_embedded_mode_repairs_its_counts_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let pingd = Pingd::dev(&["--data", data.to_str().unwrap()]).await;
    for _ in 0..5 {
        pingd.record("a", "seen", SystemClock.now()).await;
    }
    pingd.wait_for_source("a", 5).await;
    let mut connection = SqliteConnectOptions::new().filename(data.join("pings.db")).connect().await.unwrap();
    let deleted = sqlx::query("DELETE FROM source_segments WHERE family = 0").execute(&mut connection).await.unwrap();
    assert!(deleted.rows_affected() > 0);
    let edited = Instant::now();
    wait_for_drifts(&pingd, 1.0, edited).await;
    pingd.wait_for_source("a", 5).await;
    wait_for_difference(&pingd, false, edited).await;
}
