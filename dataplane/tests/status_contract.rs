//! The contract of the status cache: counts never decrease, unless they are revoked; they expire and stay bounded.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no callers")]

#[path = "status_contract/cut_points.rs"]
mod cut_points;
#[allow(dead_code, reason = "the contract of the counters uses all of it")]
mod dragonfly;
#[path = "encrypted_cache.rs"]
#[allow(dead_code, reason = "the contract of the counters uses all of it")]
mod encrypted_cache;
mod reordering;

use std::{sync::Arc, time::Duration};

use dragonfly::Dragonfly;
use encrypted_cache::EncryptedCache;
use reordering::Reordering;

use ping_core::{Minute, StatusCounts, StatusRule};
use ping_memory::MemoryStatuses;
use ping_ports::{CACHE_TTL_MINUTES, StatusCache, StatusUpdate, StatusWatermark};
use ping_redis::{RedisSettings, RedisStatuses};
use ping_testbed::Redis;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::yield_now,
    time::timeout,
};

const NOW: Minute = Minute(28_815_438);

fn rule() -> StatusRule {
    StatusRule { negative_when: "bounced=1".parse().unwrap(), positive_when: "delivered=1000".parse().unwrap() }
}

fn connect(url: &str) -> RedisStatuses {
    RedisStatuses::new(&RedisSettings::new(url), &rule(), 1_000).unwrap()
}

fn of(negative: i64, positive: i64) -> StatusCounts {
    StatusCounts { negative, revoked: 0, positive }
}

fn update(source: &str, negative: i64, positive: i64, last: bool) -> StatusUpdate {
    StatusUpdate { source: source.into(), counts: of(negative, positive), last }
}

/// Caches counts, as if they had just been read from the store.
async fn store(cache: &dyn StatusCache, updates: &[StatusUpdate]) {
    for update in updates {
        let version = cache.get(&update.source, NOW).await.unwrap().version;
        cache.merge_max(version, NOW, update).await.unwrap();
    }
}

macro_rules! contract {
    ($($promise:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(std::sync::Arc::new(super::MemoryStatuses::default())).await;
            })*
        }
        /// Over TLS, with no more permissions than a processor has.
        mod in_redis_as_processor {
            $(#[tokio::test]
            async fn $promise() {
                let cache = super::EncryptedCache::start().await;
                let settings = cache.settings("processor");
                super::$promise(std::sync::Arc::new(super::RedisStatuses::new(&settings, &super::rule(), 1_000).unwrap())).await;
            })*
        }
        mod in_redis {
            $(#[tokio::test]
            async fn $promise() {
                let server = super::Redis::start().await.unwrap();
                super::$promise(std::sync::Arc::new(super::connect(&server.url()))).await;
            })*
        }
        /// With little memory, and without an append-only file.
        mod in_redis_with_little_memory {
            $(#[tokio::test]
            async fn $promise() {
                let server = super::Redis::start_bounded(4 * 1024 * 1024).await.unwrap();
                super::$promise(std::sync::Arc::new(super::connect(&server.url()))).await;
            })*
        }
        mod in_emulated_dragonfly {
            $(#[tokio::test]
            async fn $promise() {
                let server = super::Dragonfly::start().await;
                super::$promise(std::sync::Arc::new(super::connect(&server.url()))).await;
            })*
        }
        /// Commands on different keys are delayed and reordered.
        mod reordered {
            $(#[tokio::test]
            async fn $promise() {
                let server = super::Reordering::start().await;
                super::$promise(std::sync::Arc::new(super::connect(&server.url()))).await;
            })*
        }
    };
}

contract! {
    merged_counts_are_cached_and_never_decrease
    a_revocation_replaces_the_negative_count_and_nothing_else
    counts_expire
    a_new_epoch_invalidates_counts
    counts_read_before_an_epoch_are_not_used_in_it
    invalidated_counts_are_gone_and_older_ones_are_refused
    the_watermark_is_that_of_the_slowest_partition
}

async fn cached(cache: &Arc<dyn StatusCache>, source: &str, now: Minute) -> Option<StatusCounts> {
    cache.get(source, now).await.unwrap().counts
}

async fn the_watermark_is_that_of_the_slowest_partition(cache: Arc<dyn StatusCache>) {
    let watermark = |as_of, on: &[i32]| StatusWatermark { as_of, on: on.to_vec(), partitions: 2 };
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 0);
    for (as_of, on, all) in [(5_000, 0, 0), (6_000, 1, 5_000), (7_000, 0, 6_000), (4_000, 1, 6_000), (9_000, 1, 7_000)]
    {
        cache.advance_watermark(&watermark(as_of, &[on])).await.unwrap();
        assert_eq!(cache.get("a", NOW).await.unwrap().as_of, all, "{as_of} on {on}");
    }
    cache.advance_watermark(&watermark(10_000, &[0, 1])).await.unwrap();
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 10_000);
}

async fn merged_counts_are_cached_and_never_decrease(cache: Arc<dyn StatusCache>) {
    assert_eq!(cached(&cache, "a", NOW).await, None);
    store(&*cache, &[update("a", 0, 7, false), update("b", 0, 1, false)]).await;
    store(&*cache, &[update("a", 0, 5, false)]).await;
    assert_eq!(cached(&cache, "a", NOW).await, Some(of(0, 7)));
    assert_eq!(cached(&cache, "b", NOW).await, Some(of(0, 1)));
    assert_eq!(cached(&cache, "c", NOW).await, None);
}

/// Readers and processors may have read the counts before or after a revocation, and store them in any order.
async fn a_revocation_replaces_the_negative_count_and_nothing_else(cache: Arc<dyn StatusCache>) {
    let states = [(1, 0, 7), (0, 3, 7), (1, 3, 8), (0, 4, 8)].map(|(negative, revoked, positive)| StatusCounts {
        negative,
        revoked,
        positive,
    });
    let mut name = 0;
    for first in 0..states.len() {
        for second in 0..states.len() {
            name += 1;
            let source = format!("source-{name}");
            for counts in [states[first], states[second], states[first]] {
                let update = StatusUpdate { source: source.as_str().into(), counts, last: counts.negative > 0 };
                store(&*cache, &[update]).await;
            }
            assert_eq!(cached(&cache, &source, NOW).await, Some(states[first.max(second)]), "{first} {second}");
        }
    }
}

async fn counts_expire(cache: Arc<dyn StatusCache>) {
    store(&*cache, &[update("a", 0, 7, false), update("z", 1, 7, true)]).await;
    let later = Minute(NOW.0 + CACHE_TTL_MINUTES);
    for (source, counts) in [("a", of(0, 7)), ("z", of(1, 7))] {
        assert_eq!(cached(&cache, source, Minute(later.0 - 1)).await, Some(counts));
        assert_eq!(cached(&cache, source, later).await, None);
    }
}

/// Not even a negative status outlives its epoch: the processor that was lost may have counted a revocation.
async fn a_new_epoch_invalidates_counts(cache: Arc<dyn StatusCache>) {
    store(&*cache, &[update("a", 0, 7, false), update("z", 1, 7, true)]).await;
    cache.begin_epoch().await.unwrap();
    assert_eq!((cached(&cache, "a", NOW).await, cached(&cache, "z", NOW).await), (None, None));
    // They are not merged into it either: a store that was restored has fewer events.
    store(&*cache, &[update("a", 0, 6, false)]).await;
    assert_eq!(cached(&cache, "a", NOW).await, Some(of(0, 6)));
}

async fn counts_read_before_an_epoch_are_not_used_in_it(cache: Arc<dyn StatusCache>) {
    let before = cache.get("a", NOW).await.unwrap().version;
    cache.begin_epoch().await.unwrap();
    cache.merge_max(before, NOW, &update("a", 0, 7, false)).await.unwrap();
    assert_eq!(cached(&cache, "a", NOW).await, None);
    // Nor does it invalidate a newer value.
    store(&*cache, &[update("b", 0, 8, false)]).await;
    cache.merge_max(before, NOW, &update("b", 0, 7, false)).await.unwrap();
    assert_eq!(cached(&cache, "b", NOW).await, Some(of(0, 8)));
}

async fn invalidated_counts_are_gone_and_older_ones_are_refused(cache: Arc<dyn StatusCache>) {
    store(&*cache, &[update("a", 0, 7, false)]).await;
    // A reader misses the source, and reads the store before the processor has counted another event.
    let before = cache.get("b", NOW).await.unwrap().version;
    cache.invalidate(&["a".into(), "b".into(), "c".into()]).await.unwrap();
    cache.merge_max(before, NOW, &update("b", 0, 1, false)).await.unwrap();
    assert_eq!((cached(&cache, "a", NOW).await, cached(&cache, "b", NOW).await), (None, None));
    store(&*cache, &[update("a", 0, 8, false), update("b", 0, 2, false)]).await;
    assert_eq!((cached(&cache, "a", NOW).await, cached(&cache, "b", NOW).await), (Some(of(0, 8)), Some(of(0, 2))));
    cache.invalidate(&[]).await.unwrap();
    assert_eq!(cached(&cache, "a", NOW).await, Some(of(0, 8)));
    // More than one call of a script.
    let many: Vec<_> = (0..700).map(|number| format!("source-{number}").into()).collect();
    cache.invalidate(&many).await.unwrap();
    cache.invalidate(&["a".into()]).await.unwrap();
    assert_eq!(cached(&cache, "a", NOW).await, None);
}

/// A frequent reader reuses the epoch and the watermark for some milliseconds; it sees changes soon after.
#[tokio::test]
async fn epochs_and_watermarks_of_other_processes_are_seen_soon() {
    let redis = Redis::start().await.unwrap();
    let settings = RedisSettings::new(redis.url());
    let [reader, writer] = [(); 2].map(|()| RedisStatuses::new(&settings, &rule(), 1_000).unwrap());
    store(&writer, &[update("a", 0, 7, false)]).await;
    let first = reader.get("a", NOW).await.unwrap();
    assert_eq!((first.counts, first.as_of), (Some(of(0, 7)), 0));
    store(&writer, &[update("a", 0, 8, false)]).await;
    // Counts are never reused, only the epoch and the watermark.
    assert_eq!(reader.get("a", NOW).await.unwrap().counts, Some(of(0, 8)));
    writer.advance_watermark(&StatusWatermark { as_of: 5_000, on: vec![0], partitions: 1 }).await.unwrap();
    writer.begin_epoch().await.unwrap();
    let seen = async {
        loop {
            let status = reader.get("a", NOW).await.unwrap();
            if (status.counts, status.as_of, status.version.epoch) == (None, 5_000, first.version.epoch + 1) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(1), seen).await.unwrap();
}

/// A proxy to the server in `target`; it cuts connections when `target` changes. Returns its URL.
async fn proxy(target: watch::Receiver<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut target = target.clone();
            tokio::spawn(async move {
                let address = target.borrow_and_update().trim_start_matches("redis://").to_owned();
                let mut server = TcpStream::connect(address).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => (),
                    _ = target.changed() => (),
                }
            });
        }
    });
    url
}

/// A server that takes over with less data must not inherit the watermark of its predecessor.
#[tokio::test]
async fn a_watermark_does_not_outlive_its_connection() {
    let (first, second) = (Redis::start().await.unwrap(), Redis::start().await.unwrap());
    let (target, receiver) = watch::channel(first.url());
    let settings = RedisSettings::new(proxy(receiver).await);
    let cache = RedisStatuses::new(&settings, &rule(), 1_000).unwrap();
    store(&cache, &[update("a", 0, 9, false)]).await;
    cache.advance_watermark(&StatusWatermark { as_of: 5_000, on: vec![0], partitions: 1 }).await.unwrap();
    let behind = RedisStatuses::new(&RedisSettings::new(second.url()), &rule(), 1_000).unwrap();
    store(&behind, &[update("a", 0, 7, false)]).await;
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 5_000);
    target.send(second.url()).unwrap();
    let answer_of_the_second = async {
        loop {
            match cache.get("a", NOW).await {
                Ok(status) if status.counts == Some(of(0, 7)) => return status,
                // The first server answers until the connection is cut; then one error follows.
                Ok(_) | Err(_) => yield_now().await,
            }
        }
    };
    let status = timeout(Duration::from_secs(10), answer_of_the_second).await.unwrap();
    assert_eq!(status.as_of, 0, "the watermark of the first server, applied to the second");
}

/// The cache is bounded, and final counts are evicted last. Prints the bytes per source.
#[tokio::test]
async fn redis_caches_no_more_sources_than_configured() {
    let redis = Redis::start().await.unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut memory = async || {
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().to_owned();
        line.trim().parse::<i64>().unwrap()
    };
    let settings = RedisSettings::new(redis.url());
    let cache: Arc<dyn StatusCache> = Arc::new(RedisStatuses::new(&settings, &rule(), 20_000).unwrap());
    let last: Vec<_> = (0..2_000).map(|n| update(&format!("final-{n}.example.com"), 1, 3, true)).collect();
    let before = memory().await;
    store(&*cache, &last).await;
    let open: Vec<_> = (0..30_000).map(|n| update(&format!("source-{n}.example.com"), 0, 12, false)).collect();
    store(&*cache, &open).await;
    let used = memory().await - before;
    let mut cached_open = 0;
    for update in &open {
        cached_open += i64::from(cached(&cache, &update.source, NOW).await.is_some());
    }
    let mut cached_final = 0;
    for update in &last {
        cached_final += i64::from(cached(&cache, &update.source, NOW).await.is_some());
    }
    println!(
        "{cached_open} open and {cached_final} final sources cached, {} bytes each",
        used / (cached_open + cached_final)
    );
    assert!(cached_open + cached_final <= 20_000 && cached_open > 15_000, "{cached_open} open, {cached_final} final");
    assert!(cached_final > 1_900, "{cached_final} of 2,000 final ones are left");
}

/// A server reads statuses, and caches those that it had to read from the store.
#[tokio::test]
async fn a_server_may_read_and_cache_statuses_but_not_begin_an_epoch() {
    let cache = EncryptedCache::start().await;
    let as_user = |name: &str| RedisStatuses::new(&cache.settings(name), &rule(), 1_000).unwrap();
    let (processor, server) = (as_user("processor"), as_user("server"));
    processor.begin_epoch().await.unwrap();
    store(&server, &[update("a", 0, 7, false)]).await;
    let counts = processor.get("a", NOW).await.unwrap().counts;
    assert_eq!(counts, Some(of(0, 7)));
    // More sources than a bucket holds, so that some are evicted.
    let many: Vec<_> = (0..300).map(|number| update(&format!("source-{number}"), 0, 1, false)).collect();
    let full = RedisStatuses::new(&cache.settings("server"), &rule(), 100).unwrap();
    store(&full, &many).await;
    let refused = server.begin_epoch().await.unwrap_err();
    assert!(ping_ports::chain(&refused).contains("lacks a permission"), "{refused:?}");
}
