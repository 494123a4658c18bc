//! The contract of every cache: one body per promise, one test per adapter.
#![cfg(test)]

#[path = "cache_contract/cut_points.rs"]
mod cut_points;
mod dragonfly;
#[path = "encrypted_cache.rs"]
mod encrypted_cache;
#[path = "cache_contract/encryption.rs"]
mod encryption;
#[path = "cache_contract/fixture.rs"]
mod fixture;
#[path = "cache_contract/full.rs"]
mod full;
#[path = "cache_contract/redis_only.rs"]
mod redis_only;
mod reordering;
#[path = "cache_contract/truth.rs"]
mod truth;

use std::collections::BTreeMap;

use dragonfly::Dragonfly;
use encrypted_cache::EncryptedCache;
use fixture::{Cache, NOW, connect, done, filled, flush, map, reading, snapshot, stale, watermark};
use ping_core::{Mark, Marks, Millis, Minute, Seq, Token, WriterId};
use ping_memory::MemoryCache;
use ping_ports::{Advance, Applied, Flush, Reading};
use ping_redis::RedisCache;
use ping_testbed::Redis;
use reordering::Reordering;

/// Bytes: the largest test of the contract needs about half of it.
const LITTLE_MEMORY: u64 = 8 * 1024 * 1024;

macro_rules! contract {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(std::sync::Arc::new(super::MemoryCache::default())).await;
            })*
        }

        mod redis {
            $(#[tokio::test]
            async fn $promise() {
                let server = super::Redis::start().await.unwrap();
                super::$promise(std::sync::Arc::new(super::connect(&server.url()))).await;
            })*
        }

        /// With little memory, and without an append-only file.
        mod redis_with_little_memory {
            $(#[tokio::test]
            async fn $promise() {
                let server = super::Redis::start_bounded(super::LITTLE_MEMORY).await.unwrap();
                super::$promise(std::sync::Arc::new(super::connect(&server.url()))).await;
            })*
        }

        mod emulated_dragonfly {
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

        /// Over TLS, with no more permissions than a processor has.
        mod redis_as_processor {
            $(#[tokio::test]
            async fn $promise() {
                let server = super::EncryptedCache::start().await;
                let cache = super::RedisCache::new(&server.settings("processor")).unwrap();
                super::$promise(std::sync::Arc::new(cache)).await;
            })*
        }
    };
}

contract! {
    an_empty_cache_reports_it_and_applies_nothing
    counters_and_positions_move_together
    a_replayed_flush_changes_nothing
    a_flush_of_another_generation_or_offset_changes_nothing
    a_missing_offset_counts_as_zero
    of_two_appliers_of_one_flush_one_is_done
    marks_never_decrease
    a_snapshot_replaces_everything
    a_snapshot_is_installed_only_over_the_generation_that_was_seen
    a_minute_expires_after_the_window
    a_range_sums_its_minutes
    as_of_is_that_of_the_slowest_partition_and_never_decreases
    a_grown_topic_holds_as_of_back
    a_rebuild_clears_the_suspect_mark
    an_audit_is_remembered_until_the_next_rebuild
    forgotten_writers_have_no_marks
    thousands_of_everything_fit
}

async fn has_counted(cache: &Cache, token: Token) -> bool {
    cache.have_counted(&[token]).await.unwrap() == [true]
}

async fn an_empty_cache_reports_it_and_applies_nothing(cache: Cache) {
    assert_eq!(cache.positions().await.unwrap(), None);
    assert_eq!(cache.read(Some((NOW.back(60), NOW))).await.unwrap(), None);
    assert_eq!(cache.counters().await.unwrap(), None);
    assert!(!has_counted(&cache, Token { writer: WriterId(1), partition: 0, seq: 1 }).await);
    cache.mark_suspect(&"g".into()).await.unwrap();
    cache.audited(&"g".into(), 1).await.unwrap();
    cache.forget_writers(&[WriterId(1)]).await.unwrap();
    assert_eq!(stale(&cache, &flush("g", 0, 0, 1, NOW)).await, "the cache is empty");
}

async fn counters_and_positions_move_together(cache: Cache) {
    filled(&cache).await;
    done(&cache, &flush("g", 1, 0, 5, NOW)).await;
    let mut second = flush("g", 1, 5, 2, NOW);
    second.advance.from.insert(0, 0);
    second.advance.to.insert(0, 3);
    second.minutes.insert(NOW.back(1), 3);
    second.total = 5;
    done(&cache, &second).await;

    let positions = cache.positions().await.unwrap().unwrap();
    assert_eq!((positions.generation.as_str(), positions.offsets), ("g", map([(0, 3), (1, 7)])));
    let mark = Mark { base: 0, partitions: map([(1, 7)]) };
    assert_eq!(positions.marks.0, map([(WriterId(7), mark)]));
    let counters = cache.counters().await.unwrap().unwrap();
    assert_eq!((counters.generation.as_str(), counters.total), ("g", 10));
    assert_eq!(counters.minutes, map([(NOW.back(1), 3), (NOW, 7)]));
    assert_eq!(counters.marks, positions.marks);
    let token = |partition, seq| Token { writer: WriterId(7), partition, seq };
    assert!(has_counted(&cache, token(1, 7)).await);
    assert!(!has_counted(&cache, token(1, 8)).await);
    assert!(!has_counted(&cache, token(0, 7)).await);
}

async fn a_replayed_flush_changes_nothing(cache: Cache) {
    filled(&cache).await;
    let once = flush("g", 1, 0, 5, NOW);
    done(&cache, &once).await;
    assert_eq!(stale(&cache, &once).await, "partition 1 is at 5, not at 0");
    assert_eq!(reading(&cache).await.total, 5);
}

async fn a_flush_of_another_generation_or_offset_changes_nothing(cache: Cache) {
    filled(&cache).await;
    assert_eq!(stale(&cache, &flush("h", 0, 0, 1, NOW)).await, "the generation is g");
    let mut ahead = flush("g", 0, 0, 1, NOW);
    ahead.advance.from.insert(1, 4);
    ahead.advance.to.insert(1, 5);
    ahead.advance.as_of = Some(900);
    ahead.advance.partitions = 2;
    assert_eq!(stale(&cache, &ahead).await, "partition 1 is at 0, not at 4");
    assert_eq!(reading(&cache).await.as_of, 100);
}

async fn a_missing_offset_counts_as_zero(cache: Cache) {
    filled(&cache).await;
    assert_eq!(stale(&cache, &flush("g", 9, 3, 1, NOW)).await, "partition 9 is at 0, not at 3");
    done(&cache, &flush("g", 9, 0, 1, NOW)).await;
    assert_eq!(cache.positions().await.unwrap().unwrap().offsets[&9], 1);
}

async fn of_two_appliers_of_one_flush_one_is_done(cache: Cache) {
    filled(&cache).await;
    for round in 0..20 {
        let once = flush("g", 0, round, 1, NOW);
        let (one, other) = tokio::join!(cache.apply(&once), cache.apply(&once));
        let done = [one.unwrap(), other.unwrap()].iter().filter(|applied| **applied == Applied::Done).count();
        assert_eq!((done, reading(&cache).await.total), (1, round + 1));
    }
}

async fn marks_never_decrease(cache: Cache) {
    let mut start = snapshot("g");
    start.positions.marks.0.insert(WriterId(7), Mark { base: 10, partitions: map([(1, 15)]) });
    assert!(cache.install(None, &start).await.unwrap());
    let mut flush = flush("g", 0, 0, 1, NOW);
    flush.advance.marks = map([((WriterId(7), 0), 9), ((WriterId(7), 1), 14), ((WriterId(8), 0), 3)]);
    done(&cache, &flush).await;
    let marks = cache.positions().await.unwrap().unwrap().marks;
    let get = |writer, partition| marks.get(WriterId(writer), partition);
    assert_eq!((get(7, 0), get(7, 1), get(7, 2), get(8, 0), get(8, 1)), (10, 15, 10, 3, 0));
}

async fn a_snapshot_replaces_everything(cache: Cache) {
    filled(&cache).await;
    let mut before = flush("g", 0, 0, 5, NOW);
    before.advance.from.insert(3, 0);
    before.advance.to.insert(3, 1);
    before.advance.as_of = Some(5_000);
    before.advance.partitions = 4;
    done(&cache, &before).await;
    let mut next = snapshot("h");
    next.positions.marks.0.insert(WriterId(9), Mark { base: 4, partitions: BTreeMap::new() });
    next.total = 77;
    next.minutes = map([(NOW.back(2), 7)]);
    next.as_of = 6_000;
    assert!(cache.install(Some(&"g".into()), &next).await.unwrap());
    assert_eq!(cache.positions().await.unwrap(), Some(next.positions.clone()));
    let counters = cache.counters().await.unwrap().unwrap();
    assert_eq!((counters.total, counters.minutes, counters.as_of), (77, next.minutes, 6_000));
    assert!(has_counted(&cache, Token { writer: WriterId(9), partition: 5, seq: 4 }).await);
}

async fn a_snapshot_is_installed_only_over_the_generation_that_was_seen(cache: Cache) {
    assert!(!cache.install(Some(&"f".into()), &snapshot("g")).await.unwrap());
    assert!(cache.install(None, &snapshot("g")).await.unwrap());
    assert!(!cache.install(None, &snapshot("h")).await.unwrap());
    assert!(!cache.install(Some(&"f".into()), &snapshot("h")).await.unwrap());
    assert_eq!(cache.positions().await.unwrap().unwrap().generation, "g");
    assert!(cache.install(Some(&"g".into()), &snapshot("h")).await.unwrap());
    assert_eq!(cache.positions().await.unwrap().unwrap().generation, "h");
}

/// A minute is kept for an hour after its last change, and at least for an hour after it ended.
async fn a_minute_expires_after_the_window(cache: Cache) {
    let mut start = snapshot("g");
    start.minutes = map([(NOW.back(59), 1), (NOW.back(500), 1)]);
    start.total = 2;
    assert!(cache.install(None, &start).await.unwrap());
    let later = |offset, minutes: i64, at| Flush { now: NOW.back(-minutes), ..flush("g", 0, offset, 1, at) };
    let kept = async || {
        let minutes = cache.counters().await.unwrap().unwrap().minutes.into_keys();
        minutes.map(|minute| minute.0 - NOW.0).collect::<Vec<_>>()
    };
    done(&cache, &later(0, 0, NOW.back(-30))).await;
    assert_eq!(kept().await, [-500, -59, 30]);
    done(&cache, &later(1, 59, NOW.back(59))).await;
    assert_eq!(kept().await, [-500, -59, 30]);
    done(&cache, &later(2, 60, NOW.back(-60))).await;
    assert_eq!(kept().await, [-59, 30, 60]);
    done(&cache, &later(3, 89, NOW.back(-89))).await;
    assert_eq!(kept().await, [-59, 30, 60, 89]);
    done(&cache, &later(4, 119, NOW.back(-119))).await;
    assert_eq!(kept().await, [60, 89, 119]);
    // Readers must not take the minutes that are gone for minutes without events.
    let from = reading(&cache).await.minutes_from.unwrap().0 - NOW.0;
    assert!((31..=60).contains(&from), "{from}");
    assert_eq!(reading(&cache).await.total, 7);
}

async fn a_range_sums_its_minutes(cache: Cache) {
    let mut start = snapshot("g");
    start.minutes = map((0..100).map(|back| (NOW.back(back), back)));
    start.total = 5_000;
    assert!(cache.install(None, &start).await.unwrap());
    let sum =
        async |from: i64, to: i64| cache.read(Some((Minute(from), Minute(to)))).await.unwrap().unwrap().minutes_total;
    assert_eq!(sum(NOW.0 - 3, NOW.0).await, 1 + 2 + 3);
    assert_eq!(sum(NOW.0 - 3, NOW.0 + 1).await, 1 + 2 + 3);
    assert_eq!(sum(NOW.0, NOW.0).await, 0);
    assert_eq!(sum(0, Minute::of(Millis::MAX).0).await, 4_950);
    assert_eq!(sum(0, NOW.0 - 97).await, 98 + 99);
    let expected = Reading {
        generation: "g".into(),
        total: 5_000,
        minutes_total: 0,
        minutes_from: Some(NOW.back(60)),
        as_of: 100,
        ..Reading::default()
    };
    assert_eq!(reading(&cache).await, expected);
}

async fn as_of_is_that_of_the_slowest_partition_and_never_decreases(cache: Cache) {
    filled(&cache).await;
    done(&cache, &watermark(0, 1_728_926_331_007, 2)).await;
    assert_eq!(reading(&cache).await.as_of, 100);
    done(&cache, &watermark(1, 300, 2)).await;
    assert_eq!(reading(&cache).await.as_of, 300);
    done(&cache, &watermark(1, 200, 2)).await;
    assert_eq!(reading(&cache).await.as_of, 300);
    done(&cache, &watermark(1, 1_728_926_331_008, 2)).await;
    assert_eq!(reading(&cache).await.as_of, 1_728_926_331_007);
    done(&cache, &flush("g", 1, 0, 1, NOW)).await;
    assert_eq!(cache.counters().await.unwrap().unwrap().as_of, 1_728_926_331_007);
}

async fn a_grown_topic_holds_as_of_back(cache: Cache) {
    filled(&cache).await;
    let mut both = watermark(0, 200, 2);
    both.advance.from.insert(1, 0);
    both.advance.to.insert(1, 0);
    done(&cache, &both).await;
    both.advance.as_of = Some(300);
    both.advance.partitions = 3;
    done(&cache, &both).await;
    assert_eq!(reading(&cache).await.as_of, 200);
    done(&cache, &watermark(2, 250, 3)).await;
    assert_eq!(reading(&cache).await.as_of, 250);
}

async fn a_rebuild_clears_the_suspect_mark(cache: Cache) {
    filled(&cache).await;
    cache.mark_suspect(&"another".into()).await.unwrap();
    assert!(!reading(&cache).await.suspect);
    cache.mark_suspect(&"g".into()).await.unwrap();
    assert!(reading(&cache).await.suspect);
    done(&cache, &flush("g", 0, 0, 1, NOW)).await;
    assert!(reading(&cache).await.suspect);
    assert!(cache.install(Some(&"g".into()), &snapshot("h")).await.unwrap());
    assert!(!reading(&cache).await.suspect);
}

async fn an_audit_is_remembered_until_the_next_rebuild(cache: Cache) {
    filled(&cache).await;
    cache.audited(&"another".into(), 1_728_926_331_007).await.unwrap();
    assert_eq!(reading(&cache).await.last_audit, None);
    cache.audited(&"g".into(), 1_728_926_331_007).await.unwrap();
    assert_eq!(reading(&cache).await.last_audit, Some(1_728_926_331_007));
    assert_eq!(
        cache.read(Some((Minute(0), Minute(9_000)))).await.unwrap().unwrap().last_audit,
        Some(1_728_926_331_007)
    );
    done(&cache, &watermark(0, 200, 2)).await;
    assert_eq!(reading(&cache).await.last_audit, Some(1_728_926_331_007));
    assert!(cache.install(Some(&"g".into()), &snapshot("h")).await.unwrap());
    assert_eq!(reading(&cache).await.last_audit, None);
}

async fn forgotten_writers_have_no_marks(cache: Cache) {
    let mut start = snapshot("g");
    let mark = |base, at: Seq| Mark { base, partitions: map([(0, at), (1, at + 1)]) };
    start.positions.marks.0 = map([(WriterId(1), mark(5, 7)), (WriterId(11), mark(6, 8)), (WriterId(2), mark(7, 9))]);
    assert!(cache.install(None, &start).await.unwrap());
    cache.forget_writers(&[WriterId(1), WriterId(2), WriterId(3)]).await.unwrap();
    let positions = cache.positions().await.unwrap().unwrap();
    assert_eq!(positions.marks.0, map([(WriterId(11), mark(6, 8))]));
    assert_eq!(positions.offsets, start.positions.offsets);
}

async fn thousands_of_everything_fit(cache: Cache) {
    let mut start = snapshot("g");
    start.positions.offsets = map((0..2_500).map(|partition| (partition, i64::from(partition))));
    let mark = |writer| Mark { base: writer, partitions: map([(3, writer + 1)]) };
    start.positions.marks.0 = map((1..=10_000).map(|writer| (WriterId(writer), mark(writer))));
    start.minutes = map((0..5_000).map(|back| (NOW.back(back), 1)));
    start.total = 5_000;
    assert!(cache.install(None, &start).await.unwrap());
    assert_eq!(cache.positions().await.unwrap().unwrap(), start.positions);

    let flush = Flush {
        advance: Advance {
            generation: "g".into(),
            from: start.positions.offsets.clone(),
            to: map(start.positions.offsets.iter().map(|(partition, offset)| (*partition, offset + 1))),
            marks: map((9_001..12_000).map(|writer| ((WriterId(writer), 3), writer + 2))),
            as_of: Some(4_000),
            partitions: 2_500,
        },
        total: 3_000,
        minutes: map((0..3_000).map(|back| (NOW.back(10_000 + back), 1))),
        now: NOW.back(-120),
        window: 60,
    };
    done(&cache, &flush).await;
    let positions = cache.positions().await.unwrap().unwrap();
    assert_eq!(positions.offsets, flush.advance.to);
    let get = |writer| positions.marks.get(WriterId(writer), 3);
    assert_eq!((get(9_000), get(9_001), get(11_999)), (9_001, 9_003, 12_001));
    let counters = cache.counters().await.unwrap().unwrap();
    assert_eq!((counters.total, counters.as_of, counters.minutes), (8_000, 4_000, flush.minutes));
    cache.forget_writers(&(1..12_000).map(WriterId).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(cache.positions().await.unwrap().unwrap().marks, Marks::default());
}
