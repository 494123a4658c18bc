//! The cache of statuses, whatever it is made of: it raises, it believes what it may, and it forgets.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no callers")]

use std::{sync::Arc, time::Duration};

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

fn says(source: &str, not: i64, yes: i64, last: bool) -> StatusUpdate {
    StatusUpdate { source: source.into(), counts: StatusCounts { negative: not, positive: yes }, last }
}

macro_rules! contract {
    ($($promise:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(std::sync::Arc::new(super::MemoryStatuses::default())).await;
            })*
        }
        mod in_redis {
            $(#[tokio::test]
            async fn $promise() {
                let redis = super::Redis::start().await.unwrap();
                let settings = super::RedisSettings::new(redis.url());
                super::$promise(std::sync::Arc::new(super::RedisStatuses::new(&settings, &super::rule(), 1_000).unwrap())).await;
            })*
        }
    };
}

contract! {
    what_is_raised_is_held_and_never_falls
    what_may_change_is_believed_for_a_while
    an_epoch_ends_belief_in_what_may_change
    an_answer_from_before_an_epoch_is_not_believed
    a_promise_is_that_of_the_slowest_partition
}

async fn held(cache: &Arc<dyn StatusCache>, source: &str, now: Minute) -> Option<StatusCounts> {
    cache.get(source, now).await.unwrap().counts
}

async fn a_promise_is_that_of_the_slowest_partition(cache: Arc<dyn StatusCache>) {
    let promise = |as_of, on: &[i32]| StatusWatermark { as_of, on: on.to_vec(), partitions: 2 };
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 0);
    for (as_of, on, all) in [(5_000, 0, 0), (6_000, 1, 5_000), (7_000, 0, 6_000), (4_000, 1, 6_000), (9_000, 1, 7_000)]
    {
        cache.advance_watermark(&promise(as_of, &[on])).await.unwrap();
        assert_eq!(cache.get("a", NOW).await.unwrap().as_of, all, "{as_of} on {on}");
    }
    cache.advance_watermark(&promise(10_000, &[0, 1])).await.unwrap();
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 10_000);
}

async fn what_is_raised_is_held_and_never_falls(cache: Arc<dyn StatusCache>) {
    assert_eq!(held(&cache, "a", NOW).await, None);
    cache.merge_max(None, NOW, &[says("a", 0, 7, false), says("b", 0, 1, false)]).await.unwrap();
    cache.merge_max(None, NOW, &[says("a", 0, 5, false)]).await.unwrap();
    assert_eq!(held(&cache, "a", NOW).await, Some(StatusCounts { negative: 0, positive: 7 }));
    assert_eq!(held(&cache, "b", NOW).await, Some(StatusCounts { negative: 0, positive: 1 }));
    assert_eq!(held(&cache, "c", NOW).await, None);
}

async fn what_may_change_is_believed_for_a_while(cache: Arc<dyn StatusCache>) {
    cache.merge_max(None, NOW, &[says("a", 0, 7, false), says("z", 1, 7, true)]).await.unwrap();
    let later = Minute(NOW.0 + CACHE_TTL_MINUTES);
    assert_eq!(held(&cache, "a", Minute(later.0 - 1)).await, Some(StatusCounts { negative: 0, positive: 7 }));
    assert_eq!(held(&cache, "a", later).await, None);
    assert_eq!(held(&cache, "z", Minute(NOW.0 + 1_000_000)).await, Some(StatusCounts { negative: 1, positive: 7 }));
}

async fn an_epoch_ends_belief_in_what_may_change(cache: Arc<dyn StatusCache>) {
    cache.merge_max(None, NOW, &[says("a", 0, 7, false), says("z", 1, 7, true)]).await.unwrap();
    cache.begin_epoch().await.unwrap();
    assert_eq!(
        (held(&cache, "a", NOW).await, held(&cache, "z", NOW).await),
        (None, Some(StatusCounts { negative: 1, positive: 7 }))
    );
    cache.merge_max(None, NOW, &[says("a", 0, 6, false)]).await.unwrap();
    assert_eq!(held(&cache, "a", NOW).await, Some(StatusCounts { negative: 0, positive: 7 }));
}

async fn an_answer_from_before_an_epoch_is_not_believed(cache: Arc<dyn StatusCache>) {
    let before = cache.get("a", NOW).await.unwrap().epoch;
    cache.begin_epoch().await.unwrap();
    cache.merge_max(Some(before), NOW, &[says("a", 0, 7, false)]).await.unwrap();
    assert_eq!(held(&cache, "a", NOW).await, None);
    // It does not spoil a newer one, either.
    cache.merge_max(None, NOW, &[says("b", 0, 8, false)]).await.unwrap();
    cache.merge_max(Some(before), NOW, &[says("b", 0, 7, false)]).await.unwrap();
    assert_eq!(held(&cache, "b", NOW).await, Some(StatusCounts { negative: 0, positive: 8 }));
}

/// Whoever asks often asks for the epoch and the promise now and then only: both are seen soon all the same.
#[tokio::test]
async fn what_others_begin_and_promise_is_seen_soon() {
    let redis = Redis::start().await.unwrap();
    let settings = RedisSettings::new(redis.url());
    let [reader, writer] = [(); 2].map(|()| RedisStatuses::new(&settings, &rule(), 1_000).unwrap());
    writer.merge_max(None, NOW, &[says("a", 0, 7, false)]).await.unwrap();
    let first = reader.get("a", NOW).await.unwrap();
    assert_eq!((first.counts, first.as_of), (Some(StatusCounts { negative: 0, positive: 7 }), 0));
    writer.merge_max(None, NOW, &[says("a", 0, 8, false)]).await.unwrap();
    // What is known of a source is never remembered.
    assert_eq!(reader.get("a", NOW).await.unwrap().counts, Some(StatusCounts { negative: 0, positive: 8 }));
    writer.advance_watermark(&StatusWatermark { as_of: 5_000, on: vec![0], partitions: 1 }).await.unwrap();
    writer.begin_epoch().await.unwrap();
    let seen = async {
        loop {
            let held = reader.get("a", NOW).await.unwrap();
            if (held.counts, held.as_of, held.epoch) == (None, 5_000, first.epoch + 1) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(1), seen).await.unwrap();
}

/// Who connects to the URL is taken to the server that `target` names, and is cut off when it names another.
async fn led_to(target: watch::Receiver<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut caller, _) = listener.accept().await.unwrap();
            let mut target = target.clone();
            tokio::spawn(async move {
                let address = target.borrow_and_update().trim_start_matches("redis://").to_owned();
                let mut server = TcpStream::connect(address).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut caller, &mut server) => (),
                    _ = target.changed() => (),
                }
            });
        }
    });
    url
}

/// Another server that takes over at once, with less in it, is not believed to hold what the one before it promised.
#[tokio::test]
async fn a_promise_does_not_outlive_the_connection_it_came_by() {
    let (first, second) = (Redis::start().await.unwrap(), Redis::start().await.unwrap());
    let (target, led) = watch::channel(first.url());
    let settings = RedisSettings::new(led_to(led).await);
    let cache = RedisStatuses::new(&settings, &rule(), 1_000).unwrap();
    cache.merge_max(None, NOW, &[says("a", 0, 9, false)]).await.unwrap();
    cache.advance_watermark(&StatusWatermark { as_of: 5_000, on: vec![0], partitions: 1 }).await.unwrap();
    let behind = RedisStatuses::new(&RedisSettings::new(second.url()), &rule(), 1_000).unwrap();
    behind.merge_max(None, NOW, &[says("a", 0, 7, false)]).await.unwrap();
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 5_000);
    target.send(second.url()).unwrap();
    let answer_of_the_second = async {
        loop {
            match cache.get("a", NOW).await {
                Ok(held) if held.counts == Some(StatusCounts { negative: 0, positive: 7 }) => return held,
                // The first, until it is cut off; then once that it is.
                Ok(_) | Err(_) => yield_now().await,
            }
        }
    };
    let held = timeout(Duration::from_secs(10), answer_of_the_second).await.unwrap();
    assert_eq!(held.as_of, 0, "a promise of the first, about what the second holds");
}

/// Bounded, and what is final goes last. Prints what a source costs.
#[tokio::test]
async fn redis_holds_no_more_than_it_is_told_to() {
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
    let last: Vec<_> = (0..2_000).map(|n| says(&format!("final-{n}.example.com"), 1, 3, true)).collect();
    let before = memory().await;
    cache.merge_max(None, NOW, &last).await.unwrap();
    let open: Vec<_> = (0..60_000).map(|n| says(&format!("source-{n}.example.com"), 0, 12, false)).collect();
    cache.merge_max(None, NOW, &open).await.unwrap();
    let used = memory().await - before;
    let mut kept = 0;
    for update in &open {
        kept += i64::from(held(&cache, &update.source, NOW).await.is_some());
    }
    let mut kept_last = 0;
    for update in &last {
        kept_last += i64::from(held(&cache, &update.source, NOW).await.is_some());
    }
    println!("{kept} open and {kept_last} final sources held, {} bytes each", used / (kept + kept_last));
    assert!(kept + kept_last <= 20_000 && kept > 15_000, "{kept} open, {kept_last} final");
    assert!(kept_last > 1_900, "{kept_last} of 2,000 final ones are left");
}
