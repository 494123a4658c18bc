//! A cache without free memory, and one that is killed while a processor installs the counters. No answer in between claims to be exact
//! and is wrong.

use std::time::Instant;

use ping_memory::SystemClock;
use ping_ports::Clock;
use ping_testbed::Redis;
use tokio::time::{Duration, sleep};

use crate::{
    incarnations::{Reader, assert_sources_agree, record, wait_for_exact},
    processes::{Pingd, TIMEOUT, pipeline},
};

/// How often the cache is killed, each time a little later after it lost its counters.
const KILLS: u32 = 20;
const STEP: Duration = Duration::from_millis(10);

async fn run(redis: &Redis, command: &[&str]) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(command[0]).arg(&command[1..]).query_async::<()>(&mut connection).await.unwrap();
}

/// Waits until the processor reports whether the cache is full.
async fn reports_full(processor: &Pingd, full: bool) {
    let started = Instant::now();
    while (processor.metric("ping_count_cache_full").await == 1.0) != full {
        assert!(started.elapsed() < TIMEOUT, "not reported: full {full}\n{}", processor.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cache_that_is_full_under_a_running_pipeline() {
    let (parts, server, processor) = pipeline().await;
    record(&server, 500).await;
    wait_for_exact(&server, 500, 0).await;
    let reader = Reader::start(&server);
    run(&parts.redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    reports_full(&processor, true).await;
    record(&server, 500).await;
    let recorded = SystemClock.now();
    assert_eq!(server.count(serde_json::json!({"strong": true})).await.0, 1_000);
    // Longer than a retry of the processor.
    sleep(Duration::from_secs(2)).await;
    run(&parts.redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let exact = wait_for_exact(&server, 1_000, recorded).await;
    println!("the cache was full: exact {exact:?} after it had memory again");
    reports_full(&processor, false).await;
    reader.check(recorded, 1_000, (1_000, 1_000), 1_000).await;
    assert_eq!(processor.metric("ping_count_drifts_total").await, 0.0);
    assert_sources_agree(&parts, &server).await;
}

#[tokio::test]
async fn a_cache_that_is_killed_during_installs() {
    let (mut parts, server, processor) = pipeline().await;
    record(&server, 1_000).await;
    let recorded = SystemClock.now();
    wait_for_exact(&server, 1_000, recorded).await;
    let reader = Reader::start(&server);
    for kill in 0..KILLS {
        run(&parts.redis, &["FLUSHALL"]).await;
        sleep(STEP * kill).await;
        // What it has received of an install may survive.
        match kill % 2 {
            0 => parts.redis.restart_with_data().await.unwrap(),
            _ => parts.redis.restart_empty().await.unwrap(),
        }
    }
    let exact = wait_for_exact(&server, 1_000, SystemClock.now()).await;
    let installs = processor.metric("ping_count_rebuilds_total").await;
    println!("the cache was killed {KILLS} times: {installs} installs succeeded, exact {exact:?} after the last kill");
    reader.check(recorded, 1_000, (1_000, 1_000), 1_000).await;
    assert_eq!(processor.metric("ping_count_drifts_total").await, 0.0);
    assert_sources_agree(&parts, &server).await;
}
