//! A part that stops answering and keeps its connections open, as one on a machine that lost its power.

use std::time::{Duration, Instant};

use ping_testbed::pid::Pid;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::processes::{EXAMPLE, Pingd, TIMEOUT, pipeline};

/// How soon a silent part is reported.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

/// Time until `/readyz` of `program` names `part`, three times, in order.
async fn noticed(program: &Pingd, part: &str, pid: Pid) -> [Duration; 3] {
    let mut times = [Duration::ZERO; 3];
    for time in &mut times {
        program.wait_ready().await;
        pid.suspend_tree();
        let since = Instant::now();
        while !program.readiness().await.lines().any(|line| line.starts_with(part) && !line.ends_with(": ok")) {
            assert!(since.elapsed() < TIMEOUT, "{part} is silent, and /readyz says {}", program.readiness().await);
            sleep(Duration::from_millis(20)).await;
        }
        *time = since.elapsed();
        pid.resume_tree();
    }
    program.wait_ready().await;
    times.sort();
    println!("{part} was reported after {times:?}");
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_database_broker_or_cache_is_reported_within_two_seconds_and_recovers() {
    let (parts, server, processor) = pipeline().await;
    for (program, part, pid) in [
        (&server, "postgres", parts.postgres.pid()),
        (&processor, "kafka", parts.kafka.pid()),
        (&processor, "cache", parts.redis.pid()),
    ] {
        let times = noticed(program, part, pid.unwrap()).await;
        assert!(times[1] <= NOTICED_WITHIN, "{part} was reported after {times:?}");
    }
    server.wait_for_count(0).await;
}

async fn count(server: &Pingd) -> Value {
    let (status, count) = server.call("PingCount", &json!({})).await.unwrap();
    assert_eq!(status, 200, "{count}");
    count
}

/// One call finds out that the cache is silent. The others are answered from Postgres at once.
#[tokio::test(flavor = "multi_thread")]
async fn counts_do_not_wait_for_a_silent_cache() {
    let (parts, server, _processor) = pipeline().await;
    let (status, answer) = server.call("Ping", &json!({ "timestampMs": EXAMPLE })).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    server.wait_for_count(1).await;
    let cache = parts.redis.pid().unwrap();
    cache.suspend_tree();
    let first = count(&server).await;
    assert_eq!((&first["pingCount"], &first["store"]), (&json!("1"), &json!("STORE_DATABASE")));
    let mut times = Vec::new();
    for _ in 0..20 {
        let since = Instant::now();
        assert_eq!(count(&server).await["store"], "STORE_DATABASE");
        times.push(since.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    times.sort();
    assert!(times[10] < Duration::from_secs(1), "counts waited for the cache: {times:?}");
    cache.resume_tree();
    let resumed = Instant::now();
    while count(&server).await["store"] != "STORE_CACHE" {
        assert!(resumed.elapsed() < TIMEOUT, "the cache answers again, and is not used");
        sleep(Duration::from_millis(20)).await;
    }
}
