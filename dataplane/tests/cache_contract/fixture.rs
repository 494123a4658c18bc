//! Inputs and assertions of the cache tests.

use std::{collections::BTreeMap, sync::Arc};

use ping_core::{Marks, Millis, Minute, Offset, Partition, Positions, WriterId};
use ping_ports::{Advance, Applied, CacheSnapshot, CounterCache, Flush, Reading};
use ping_redis::{RedisCache, RedisSettings};

/// The current minute in most of these tests.
pub(crate) const NOW: Minute = Minute(30_000_000);

pub(crate) fn connect(url: &str) -> RedisCache {
    RedisCache::new(&RedisSettings::new(url)).unwrap()
}

pub(crate) type Cache = Arc<dyn CounterCache>;

pub(crate) fn map<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    pairs.into_iter().collect()
}

/// Two partitions without events.
pub(crate) fn snapshot(generation: &str) -> CacheSnapshot {
    CacheSnapshot {
        positions: Positions { generation: generation.into(), offsets: map([(0, 0), (1, 0)]), marks: Marks::default() },
        total: 0,
        minutes: BTreeMap::new(),
        minutes_from: NOW.back(60),
        as_of: 100,
        now: NOW,
    }
}

/// `count` events of writer 7 in minute `at` on `partition`, from offset `from` on.
pub(crate) fn flush(generation: &str, partition: Partition, from: Offset, count: i64, at: Minute) -> Flush {
    Flush {
        advance: Advance {
            generation: generation.into(),
            from: map([(partition, from)]),
            to: map([(partition, from + count)]),
            marks: map([((WriterId(7), partition), from + count)]),
            ..Advance::default()
        },
        total: count,
        minutes: map([(at, count)]),
        now: NOW,
        window: 60,
    }
}

pub(crate) async fn filled(cache: &Cache) {
    assert!(cache.install(None, &snapshot("g")).await.unwrap());
}

pub(crate) async fn done(cache: &Cache, flush: &Flush) {
    assert_eq!(cache.apply(flush).await.unwrap(), Applied::Done);
}

pub(crate) async fn stale(cache: &Cache, flush: &Flush) -> String {
    let before = cache.counters().await.unwrap();
    let positions = cache.positions().await.unwrap();
    let Applied::Stale(why) = cache.apply(flush).await.unwrap() else { panic!("applied: {flush:?}") };
    assert_eq!(cache.counters().await.unwrap(), before);
    assert_eq!(cache.positions().await.unwrap(), positions);
    why
}

pub(crate) async fn reading(cache: &Cache) -> Reading {
    cache.read(None).await.unwrap().unwrap()
}

/// Advances the watermark of `partition` to `as_of` and counts nothing.
pub(crate) fn watermark(partition: Partition, as_of: Millis, partitions: u32) -> Flush {
    Flush {
        advance: Advance {
            generation: "g".into(),
            from: map([(partition, 0)]),
            to: map([(partition, 0)]),
            as_of: Some(as_of),
            partitions,
            ..Advance::default()
        },
        now: NOW,
        window: 60,
        ..Flush::default()
    }
}
