//! Pipelines that start from a backup of another one.

use ping_memory::SystemClock;
use ping_ports::Clock;
use ping_testbed::Parts;
use serde_json::{Value, json};

use crate::{
    incarnations::{assert_sources_agree, backed_up, dead_letters, record, reports_change, wait_for_exact},
    processes::{Pingd, pipeline},
    topic::recreate_topic,
};

/// What the pipeline finds: the events and the views of another one, another topic, and an empty cache.
#[tokio::test]
async fn a_restored_database_with_a_new_topic_is_told_from_a_topic_that_is_created_again() {
    let (parts, server, mut processor) = pipeline().await;
    record(&server, 300).await;
    wait_for_exact(&server, 300, 0).await;
    processor.kill_9().await;
    recreate_topic(&parts).await;
    empty_cache(&parts).await;
    let since = SystemClock.now();
    let mut processor = Pingd::processor(&parts, &["--restore-id", "cluster-2"]).await;
    record(&server, 100).await;
    wait_for_exact(&server, 400, since).await;
    assert_sources_agree(&parts, &server).await;
    assert_eq!(processor.metric("ping_count_log_recreations_total").await, 0.0);
    assert_eq!(processor.metric("ping_views_log_recreations_total").await, 0.0);
    let (_, answer) = server.call("PingCount", &json!({})).await.unwrap();
    assert_eq!(answer["incarnationChange"], Value::Null, "{answer}");

    processor.kill_9().await;
    recreate_topic(&parts).await;
    let since = SystemClock.now();
    processor.restart();
    wait_for_exact(&server, 400, since).await;
    assert!(processor.metric("ping_count_log_recreations_total").await >= 1.0);
    assert!(processor.metric("ping_views_log_recreations_total").await >= 1.0);
    reports_change(&server, "INCARNATION_LOG", since, 0).await;
}

/// Kafka outlived the database.
#[tokio::test]
async fn a_restored_database_with_the_old_topic_still_finds_its_phantoms() {
    let (mut parts, server, mut processor) = backed_up().await;
    processor.kill_9().await;
    parts.postgres.restore_backup().await.unwrap();
    let went_back = SystemClock.now();
    parts.postgres.restart().await.unwrap();
    empty_cache(&parts).await;
    let processor = Pingd::processor(&parts, &["--restore-id", "cluster-2"]).await;
    wait_for_exact(&server, 1_500, went_back).await;
    record(&server, 700).await;
    wait_for_exact(&server, 2_200, went_back).await;
    assert_sources_agree(&parts, &server).await;
    assert!(dead_letters(&parts, 2_000).iter().all(|reason| reason.contains("restored")));
    assert_eq!(processor.metric("ping_views_phantom_events_total").await, 2_000.0);
    reports_change(&server, "INCARNATION_STORE", went_back, 2_000).await;
}

async fn empty_cache(parts: &Parts) {
    let client = redis::Client::open(parts.redis.url()).unwrap();
    let mut cache = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut cache).await.unwrap();
}
