//! Tests that need a Redis server: connections, restarts, lost data.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use ping_ports::{Applied, CounterCache};
use ping_redis::{RedisCache, RedisSettings};
use ping_testbed::Redis;
use tokio::net::TcpListener;

use crate::fixture::{Cache, NOW, connect, done, filled, flush, reading, snapshot, stale};

async fn run<T: redis::FromRedisValue>(server: &Redis, text: &str) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut words = text.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>()).query_async(&mut connection).await.unwrap()
}

/// Waits for the end of an outage: whether the cache has positions in its first answer.
async fn has_positions_after_outage(cache: &Cache) -> bool {
    let started = Instant::now();
    loop {
        match cache.positions().await {
            Ok(positions) => return positions.is_some(),
            Err(_) => assert!(started.elapsed() < Duration::from_secs(60), "still unavailable"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn counters_can_be_read_with_hgetall() {
    let server = Redis::start().await.unwrap();
    let cache: Cache = Arc::new(connect(&server.url()));
    filled(&cache).await;
    let mut flush = flush("g", 0, 0, 5, NOW);
    flush.advance.as_of = Some(200);
    flush.advance.partitions = 2;
    done(&cache, &flush).await;
    let fields: BTreeMap<String, i64> = run(&server, "HGETALL ping:counters").await;
    assert_eq!(fields, BTreeMap::from([("total".into(), 5), ("minute:30000000".into(), 5)]));
    let mut keys: Vec<String> = run(&server, "KEYS *").await;
    keys.sort_unstable();
    assert_eq!(keys, ["ping:counters", "ping:positions", "ping:touched", "ping:watermark"]);
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_learns_them_again() {
    let server = Redis::start().await.unwrap();
    let cache: Cache = Arc::new(connect(&server.url()));
    filled(&cache).await;
    done(&cache, &flush("g", 0, 0, 1, NOW)).await;
    let () = run(&server, "SCRIPT FLUSH").await;
    done(&cache, &flush("g", 0, 1, 1, NOW)).await;
    assert_eq!(reading(&cache).await.total, 2);
}

#[tokio::test]
async fn a_restarted_server_is_found_again_with_its_data() {
    let mut server = Redis::start().await.unwrap();
    // By default, Redis postpones a write while the disk is busy with the last second's.
    let () = run(&server, "CONFIG SET appendfsync always").await;
    let cache: Cache = Arc::new(connect(&server.url()));
    filled(&cache).await;
    done(&cache, &flush("g", 0, 0, 7, NOW)).await;
    server.kill_9().await.unwrap();
    let asked = Instant::now();
    assert!(cache.apply(&flush("g", 0, 7, 1, NOW)).await.is_err());
    assert!(cache.read(None).await.is_err());
    assert!(asked.elapsed() < Duration::from_secs(10));
    server.restart_with_data().await.unwrap();
    assert!(has_positions_after_outage(&cache).await);
    done(&cache, &flush("g", 0, 7, 1, NOW)).await;
    assert_eq!(reading(&cache).await.total, 8);
}

#[tokio::test]
async fn a_server_that_lost_its_data_is_empty() {
    let mut server = Redis::start().await.unwrap();
    let cache: Cache = Arc::new(connect(&server.url()));
    filled(&cache).await;
    server.restart_empty().await.unwrap();
    assert!(!has_positions_after_outage(&cache).await);
    assert_eq!(stale(&cache, &flush("g", 0, 0, 1, NOW)).await, "the cache is empty");
    filled(&cache).await;
}

/// Eviction or an operator may delete one of the two hashes: the cache then counts as empty.
#[tokio::test]
async fn a_cache_that_lost_a_part_is_empty() {
    let server = Redis::start().await.unwrap();
    let cache: Cache = Arc::new(connect(&server.url()));
    for lost in ["ping:counters", "ping:positions"] {
        filled(&cache).await;
        let () = run(&server, &format!("DEL {lost}")).await;
        assert_eq!(cache.positions().await.unwrap(), None);
        assert_eq!(cache.read(None).await.unwrap(), None);
        assert_eq!(cache.read(Some((NOW.back(10_000), NOW))).await.unwrap(), None);
        assert_eq!(cache.counters().await.unwrap(), None);
        assert_eq!(stale(&cache, &flush("g", 0, 0, 1, NOW)).await, "the cache is empty");
        assert!(!cache.install(Some(&"g".into()), &snapshot("h")).await.unwrap());
    }
}

#[tokio::test]
async fn a_password_can_be_given_beside_the_url() {
    let server = Redis::start().await.unwrap();
    let cache: Cache = Arc::new(connect(&server.url()));
    filled(&cache).await;
    let () = run(&server, "CONFIG SET requirepass secret").await;
    let with = |password: Option<&str>| {
        let password = password.map(Into::into);
        RedisCache::new(&RedisSettings { password, ..RedisSettings::new(server.url()) }).unwrap()
    };
    assert!(with(None).positions().await.is_err());
    assert!(with(Some("wrong")).positions().await.is_err());
    assert!(with(Some("secret")).positions().await.unwrap().is_some());
}

#[tokio::test]
async fn a_silent_server_times_out_and_is_not_asked_again_for_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let settings = RedisSettings { response_timeout: Duration::from_millis(200), ..RedisSettings::new(url) };
    let cache = RedisCache::new(&settings).unwrap();
    let accepted = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            silent.push(connection);
        }
    });
    for round in 1..=3 {
        let asked = Instant::now();
        let applied: Result<Applied, _> = cache.apply(&flush("g", 0, 0, 1, NOW)).await;
        assert!(applied.is_err());
        assert!(asked.elapsed() < Duration::from_secs(10));
        assert_eq!(accepted.load(Ordering::Relaxed), round, "a silent connection is replaced");
        let refused = cache.read(None).await.unwrap_err();
        assert!(ping_ports::chain(&refused).contains("does not answer"), "{refused}");
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
}
