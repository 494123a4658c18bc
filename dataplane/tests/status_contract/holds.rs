//! Holds, leases, and caches that lost something.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ping_core::Partition;
use ping_ports::{Access, CacheMillis, Cached, Renewal, Renewed, StatusCache};
use ping_segments::Node;
use ping_testbed::Redis;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    NOW, TIMES, cached, connect, drop_statuses, dropping, epoch_of, node, of, open, positive, renew, renew_in_epoch,
    renewal, statuses, store, time_of,
};

pub(crate) async fn nothing_is_cached_while_a_node_is_held_nor_what_was_read_before(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let (here, listed, id) = (node(&*cache, "a"), statuses(&[("a", positive())]), Uuid::now_v7());
    let before = cache.get("a", NOW).await.unwrap().version.unwrap();
    assert_eq!(cache.versions(before.epoch, &[here]).await.unwrap(), [before]);
    store(&*cache, "a", &listed).await;
    cache.hold(id, &[]).await.unwrap();
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(of(0, 1_000)));
    cache.hold(id, &dropping(&[Node::ROOT, here])).await.unwrap();
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
    let meanwhile = cache.get("a", NOW).await.unwrap().version.unwrap();
    assert_eq!(cache.versions(before.epoch, &[here]).await.unwrap(), [meanwhile]);
    for version in [before, meanwhile] {
        cache.fill(version, NOW, here, &listed).await.unwrap();
        assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
    }
    cache.release(id, &[Node::ROOT, here]).await.unwrap();
    for version in [before, meanwhile] {
        cache.fill(version, NOW, here, &listed).await.unwrap();
        assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
    }
    store(&*cache, "a", &listed).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(of(0, 1_000)));
    // More than one call of a script.
    let many: Vec<_> = (1_000..1_700).map(Node).chain([here]).collect();
    drop_statuses(&*cache, &many).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
    store(&*cache, "a", &listed).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(of(0, 1_000)));
}

pub(crate) async fn a_node_may_have_several_holds(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let (here, listed) = (node(&*cache, "a"), statuses(&[("a", positive())]));
    let ids: Vec<_> = (0..6).map(|_| Uuid::now_v7()).collect();
    for id in &ids {
        cache.hold(*id, &dropping(&[here])).await.unwrap();
    }
    for id in &ids {
        store(&*cache, "a", &listed).await;
        assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
        cache.release(*id, &[here]).await.unwrap();
    }
    store(&*cache, "a", &listed).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(of(0, 1_000)));
}

/// Of a processor that was lost.
pub(crate) async fn a_hold_expires(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let (here, listed) = (node(&*cache, "a"), statuses(&[("a", positive())]));
    for _ in 0..6 {
        cache.hold(Uuid::now_v7(), &dropping(&[here])).await.unwrap();
    }
    store(&*cache, "a", &listed).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
    sleep(TIMES.hold).await;
    store(&*cache, "a", &listed).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(of(0, 1_000)));
}

pub(crate) async fn a_closed_cache_is_not_used_until_its_owner_opens_it(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let (owner, other) = (Uuid::now_v7(), Uuid::now_v7());
    let is_open = async || {
        renew(&*cache, None).await;
        cache.get("a", NOW).await.unwrap().version.is_some()
    };
    cache.begin_epoch(owner, Access::Closed, 0).await.unwrap();
    assert!(!is_open().await);
    cache.begin_epoch(other, Access::Open, 0).await.unwrap();
    assert!(!is_open().await);
    cache.begin_epoch(owner, Access::Open, 0).await.unwrap();
    assert!(is_open().await);
    cache.begin_epoch(owner, Access::Closed, 0).await.unwrap();
    assert!(!is_open().await);
    sleep(TIMES.hold).await;
    assert!(is_open().await);
}

pub(crate) async fn a_cache_without_a_lease_is_not_used(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    store(&*cache, "a", &statuses(&[])).await;
    // A processor learns that the log has more partitions; another one has them.
    let epoch = cache.begin_epoch(Uuid::now_v7(), Access::Open, 0).await.unwrap();
    let lease = |on: &[Partition], from| {
        let on = on.iter().map(|partition| (*partition, 0)).collect();
        Renewal { epoch, on, partitions: 3, from, as_of: Some(5_000) }
    };
    let now = Some(time_of(&*cache).await);
    let is_open = async || cache.get("a", NOW).await.unwrap().version.is_some();
    cache.renew(&lease(&[0, 1], now)).await.unwrap();
    assert!(!is_open().await);
    cache.renew(&lease(&[2], None)).await.unwrap();
    assert!(!is_open().await);
    cache.renew(&lease(&[2], now)).await.unwrap();
    assert!(is_open().await);
}

pub(crate) async fn a_late_renewal_renews_nothing(cache: Arc<dyn StatusCache>) {
    let epoch = cache.begin_epoch(Uuid::now_v7(), Access::Open, 0).await.unwrap();
    sleep(TIMES.hold).await;
    let lease = CacheMillis::try_from(TIMES.lease.as_millis()).unwrap();
    let almost = Some(time_of(&*cache).await - lease + 300);
    let late = Renewal { epoch, ..renewal(1, almost, Some(5_000)) };
    cache.renew(&late).await.unwrap();
    assert!(cache.get("a", NOW).await.unwrap().version.is_some());
    sleep(Duration::from_millis(310)).await;
    assert!(cache.get("a", NOW).await.unwrap().version.is_none());
    cache.renew(&late).await.unwrap();
    assert!(cache.get("a", NOW).await.unwrap().version.is_none());
}

/// A snapshot lacks the last renewals, and perhaps holds.
pub(crate) async fn a_cache_that_went_back_is_not_used(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let renewed_until = time_of(&*cache).await + 100_000;
    let renewal = Renewal { on: [(0, renewed_until)].into(), ..renewal(1, Some(renewed_until), Some(5_000)) };
    assert_eq!(renew_in_epoch(&*cache, renewal).await.unwrap(), Renewed::Lost);
    let answer = cache.get("a", NOW).await.unwrap();
    assert_eq!((answer.version, answer.as_of), (None, 1));
}

/// A processor that knows an earlier epoch learns the later one. One that knows a later epoch closes the cache, which went back.
pub(crate) async fn a_cache_of_another_epoch_renews_nothing(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let epoch = epoch_of(&*cache).await;
    let renewal = |epoch| Renewal { epoch, ..renewal(1, None, Some(5_000)) };
    assert_eq!(cache.renew(&renewal(epoch - 1)).await.unwrap(), Renewed::LaterEpoch(epoch));
    let answer = cache.get("a", NOW).await.unwrap();
    assert_eq!((answer.version.map(|version| version.epoch), answer.as_of), (Some(epoch), 1));
    assert_eq!(cache.renew(&renewal(epoch + 1)).await.unwrap(), Renewed::Lost);
    let answer = cache.get("a", NOW).await.unwrap();
    assert_eq!((answer.version, answer.as_of), (None, 1));
}

/// The cache may have gone back, and lack holds.
pub(crate) async fn an_epoch_begins_after_those_that_are_known(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let known = epoch_of(&*cache).await + 1_000_000_000_000;
    let begun = cache.begin_epoch(Uuid::now_v7(), Access::Open, known).await.unwrap();
    assert!(begun > known, "{begun} after {known}");
    renew(&*cache, None).await;
    assert_eq!(cache.get("a", NOW).await.unwrap().version, None);
    sleep(TIMES.hold).await;
    renew(&*cache, None).await;
    assert_eq!(cache.get("a", NOW).await.unwrap().version.map(|version| version.epoch), Some(begun));
}

/// Epochs of a cache that lost everything differ from those before.
#[tokio::test]
async fn an_empty_cache_stays_closed_for_the_time_of_a_hold() {
    let redis = Redis::start().await.unwrap();
    let cache = connect(&redis.url());
    open(&cache).await;
    let before = cache.get("a", NOW).await.unwrap().version.unwrap();
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
    assert_eq!(cache.renew(&renewal(1, None, None)).await.unwrap(), Renewed::Lost);
    let started = Instant::now();
    open(&cache).await;
    assert!(started.elapsed() > TIMES.hold * 9 / 10, "{:?}", started.elapsed());
    assert_ne!(cache.get("a", NOW).await.unwrap().version.unwrap().epoch, before.epoch);
    cache.fill(before, NOW, node(&cache, "a"), &statuses(&[])).await.unwrap();
    assert_eq!(cache.get("a", NOW).await.unwrap().status, Cached::Nothing);
}
