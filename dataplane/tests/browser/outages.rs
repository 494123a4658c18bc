//! What the page shows of a server, a cache and a database that are killed, and of counts per source that are wrong.

use serde_json::json;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

use crate::{
    live::pingd_knows,
    page::Page,
    processes::{Pingd, pipeline},
};

#[tokio::test]
async fn a_killed_cache_and_a_killed_database_are_shown_and_recover() {
    let (mut parts, server, _processor) = pipeline().await;
    let page = Page::open(&server).await;
    page.wait_for_state("live").await;
    server.ping(json!({})).await;
    page.wait_for_text("total", "1").await;

    parts.redis.kill_9().await.unwrap();
    page.wait_for_state("degraded").await;
    page.wait_for_component("Cache", "Unavailable: counts come from the database").await;
    page.wait_for_text("store", "database").await;
    server.ping(json!({})).await;
    page.wait_for_text("total", "2").await;
    page.wait_for_text("hour-sum", "2").await;
    parts.redis.restart_empty().await.unwrap();
    page.wait_for_component("Cache", "Available").await;
    page.wait_for_state("live").await;
    page.wait_for_text("store", "cache").await;

    parts.postgres.kill_9().await.unwrap();
    page.wait_for_component("Database", "Unavailable: new events are refused").await;
    page.wait_for_text("status", "Database unavailable").await;
    assert!(page.title().await.starts_with("⚠ Database unavailable"), "{}", page.title().await);
    page.click("#test-ping").await;
    page.wait_for_text("test-note", "Failed: ").await;
    assert_eq!(page.text("total").await, "2", "the cache still answers");
    // Without either, the last count stays, and says of when it is.
    parts.redis.kill_9().await.unwrap();
    page.wait_for_component("Cache", "Unavailable").await;
    page.wait_for_text("status-text", "Exact as of").await;
    assert_eq!(page.text("total").await, "2");
    parts.redis.restart_with_data().await.unwrap();
    parts.postgres.restart().await.unwrap();
    page.wait_for_state("live").await;
    page.click("#test-ping").await;
    page.wait_for_text("test-note", "counted after").await;
    // Those that failed were not recorded, or were: the page shows what the database has.
    let (count, _) = server.count(json!({"strong": true})).await;
    page.wait_for_text("total", &count.to_string()).await;
    assert!(page.is_first_load().await, "without reloading");
}

#[tokio::test]
async fn a_stopped_server_is_shown_with_the_time_and_the_page_recovers() {
    let data = tempfile::tempdir().unwrap();
    let mut pingd = Pingd::dev(&["--data", data.path().to_str().unwrap()]).await;
    let page = Page::open(&pingd).await;
    for _ in 0..3 {
        pingd.ping(json!({})).await;
    }
    page.wait_for_text("total", "3").await;
    page.wait_for_state("live").await;
    let (bright, icon) = (page.style("total", "color").await, page.icon().await);

    assert_eq!(pingd.terminate().await, Some(0));
    page.wait_for_text("status", "Server unreachable since ").await;
    let since = page.text("status").await.rsplit(' ').next().unwrap().to_owned();
    assert!(since.split(':').filter(|part| part.len() == 2).count() == 3, "a time: {since}");
    assert_eq!(page.text("total").await, "3", "the last known value");
    assert_ne!(page.style("total", "color").await, bright, "dimmed");
    assert_ne!(page.icon().await, icon);
    assert_eq!(page.title().await, format!("⚠ Server unreachable since {since}"));
    page.wait_for_component("Server", "Unreachable since").await;
    page.wait_for_component("Cache", "Unknown").await;

    pingd.restart();
    pingd.wait_ready().await;
    page.wait_for_state("live").await;
    pingd.ping(json!({})).await;
    page.wait_for_text("total", "4").await;
    assert_eq!((page.style("total", "color").await, page.icon().await), (bright, icon));
    assert!(page.is_first_load().await, "without reloading");
}

/// The total stays exact, but the page must not say that everything is.
#[tokio::test]
async fn counts_per_source_that_differ_are_shown_until_they_are_rebuilt() {
    let data = tempfile::tempdir().unwrap();
    let pingd = Pingd::dev(&["--data", data.path().to_str().unwrap()]).await;
    let page = Page::open(&pingd).await;
    pingd.ask("EventService/Record", &json!({"source": "a", "kind": "seen"})).await.unwrap();
    pingd_knows(&pingd, "a", "1").await;
    page.wait_for_state("live").await;

    let file = SqliteConnectOptions::new().filename(data.path().join("pings.db"));
    let deleted = sqlx::query("DELETE FROM source_segments WHERE family = 0");
    assert!(deleted.execute(&mut file.connect().await.unwrap()).await.unwrap().rows_affected() > 0);
    page.wait_for_text("status", "Views per source differ").await;
    assert!(page.text("status-text").await.ends_with("The total is exact."), "{}", page.text("status-text").await);
    assert_eq!(page.title().await, "⚠ Views per source differ");
    page.wait_for_component("Audit", "Views per source differ: being rebuilt").await;
    assert_eq!(page.text("total").await, "1");

    page.wait_for_state("live").await;
    assert_eq!(page.text("status").await, "Live · exact");
    page.wait_for_component("Audit", "Cache equals database").await;
    pingd_knows(&pingd, "a", "1").await;
    assert!(page.is_first_load().await, "without reloading");
}
