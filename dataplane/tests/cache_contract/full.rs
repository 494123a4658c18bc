//! A cache without free memory keeps what it has, says so, and continues when it has memory again.

use std::sync::Arc;

use ping_ports::{CacheError, chain};
use ping_redis::RedisCache;
use ping_testbed::Redis;

use crate::{
    LITTLE_MEMORY,
    dragonfly::Dragonfly,
    fixture::{Cache, NOW, connect, done, filled, flush, map, reading, snapshot},
};

fn is_full(result: Result<impl std::fmt::Debug, CacheError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, CacheError::Full(_)), "{error:?}");
    let text = chain(&error);
    assert!(text.contains("the cache is full") && text.contains("raise its memory limit"), "{text}");
}

/// What a full cache does. `set_full` takes its free memory away, or gives it back.
async fn keeps_what_it_has_and_continues(cache: Arc<RedisCache>, set_full: impl AsyncFn(bool)) {
    let redis = Arc::clone(&cache);
    let cache: Cache = cache;
    filled(&cache).await;
    done(&cache, &flush("g", 0, 0, 5, NOW)).await;
    redis.check().await.unwrap();
    let before = (cache.counters().await.unwrap(), cache.positions().await.unwrap());
    set_full(true).await;
    let next = flush("g", 0, 5, 2, NOW);
    for _ in 0..2 {
        is_full(cache.apply(&next).await);
        is_full(cache.install(Some(&"g".into()), &snapshot("h")).await);
        is_full(cache.audited(&"g".into(), 7).await);
    }
    match cache.read(None).await {
        Ok(reading) => assert_eq!(reading.map(|reading| (reading.total, reading.suspect)), Some((5, false))),
        // Redis refuses transactions, so the store answers.
        refused => is_full(refused),
    }
    assert!(matches!(redis.check().await, Err(CacheError::Full(_))));
    set_full(false).await;
    assert_eq!((cache.counters().await.unwrap(), cache.positions().await.unwrap()), before);
    done(&cache, &next).await;
    redis.check().await.unwrap();
    assert_eq!(reading(&cache).await.total, 7);

    // A wrong count is not served although the mark cannot be written.
    set_full(true).await;
    cache.mark_suspect(&"g".into()).await.unwrap();
    is_full(cache.install(None, &snapshot("h")).await);
    set_full(false).await;
    assert_eq!(cache.read(None).await.unwrap(), None);
    assert!(cache.install(None, &snapshot("h")).await.unwrap());
    assert_eq!(reading(&cache).await.total, 0);
}

#[tokio::test]
async fn a_full_redis_keeps_what_it_has_and_continues() {
    let server = Redis::start_bounded(LITTLE_MEMORY).await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let set_full = async |full| {
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let bytes = if full { 1 } else { LITTLE_MEMORY };
        let mut command = redis::cmd("CONFIG");
        let command = command.arg("SET").arg("maxmemory").arg(bytes);
        command.query_async::<()>(&mut connection).await.unwrap();
    };
    keeps_what_it_has_and_continues(Arc::new(connect(&server.url())), set_full).await;
}

#[tokio::test]
async fn a_full_dragonfly_keeps_what_it_has_and_continues() {
    let server = Dragonfly::start().await;
    keeps_what_it_has_and_continues(Arc::new(connect(&server.url())), async |full| server.set_full(full)).await;
}

/// More than the 65,536 words that Dragonfly accepts in a command.
#[tokio::test]
async fn installs_and_flushes_of_any_size_fit() {
    let server = Dragonfly::start().await;
    let cache: Cache = Arc::new(connect(&server.url()));
    let mut large = snapshot("g");
    large.minutes = map((0..40_000).map(|back| (NOW.back(back), 1)));
    large.total = 40_000;
    assert!(cache.install(None, &large).await.unwrap());
    let mut more = flush("g", 0, 0, 40_000, NOW);
    more.minutes = large.minutes.clone();
    more.window = 50_000;
    done(&cache, &more).await;
    let counters = cache.counters().await.unwrap().unwrap();
    assert_eq!((counters.total, counters.minutes.len()), (80_000, 40_000));
    assert!(counters.minutes.values().all(|count| *count == 2));
}
