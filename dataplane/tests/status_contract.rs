//! The contract of the status cache: it holds what the store had, until that may have changed; statuses expire and stay bounded.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no callers")]

#[path = "status_contract/conditions.rs"]
mod conditions;
#[path = "status_contract/cut_points.rs"]
mod cut_points;
#[allow(dead_code, reason = "the contract of the counters uses all of it")]
mod dragonfly;
#[path = "encrypted_cache.rs"]
#[allow(dead_code, reason = "the contract of the counters uses all of it")]
mod encrypted_cache;
#[path = "status_contract/holds.rs"]
mod holds;
mod reordering;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use conditions::statuses_stay_that_meet_all_conditions_of_a_hold;
use dragonfly::Dragonfly;
use encrypted_cache::EncryptedCache;
use holds::{
    a_cache_of_another_epoch_renews_nothing, a_cache_that_went_back_is_not_used, a_cache_without_a_lease_is_not_used,
    a_closed_cache_is_not_used_until_its_owner_opens_it, a_hold_expires, a_late_renewal_renews_nothing,
    a_node_may_have_several_holds, an_epoch_begins_after_those_that_are_known,
    nothing_is_cached_while_a_node_is_held_nor_what_was_read_before,
};
use reordering::Reordering;

use ping_core::{KindCounts, Millis, Minute, Partition, StatusCounts, StatusRule};
use ping_memory::MemoryStatuses;
use ping_ports::{
    Access, CACHE_TTL_MINUTES, CacheError, CacheMillis, Cached, Epoch, Listed, MAX_LISTED, NodeHold, NodeStatuses,
    Renewal, Renewed, StatusCache, StatusTimes,
};
use ping_redis::{RedisSettings, RedisStatuses};
use ping_segments::Node;
use ping_testbed::Redis;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::yield_now,
    time::timeout,
};
use uuid::Uuid;

const NOW: Minute = Minute(28_815_438);

fn rule() -> StatusRule {
    StatusRule { negative_when: "bounced=1".parse().unwrap(), positive_when: "delivered=1000".parse().unwrap() }
}

/// Two nodes.
const MAX_SOURCES: u32 = 256;

/// Long leases, and short holds.
const TIMES: StatusTimes = StatusTimes { lease: Duration::from_secs(60), hold: Duration::from_secs(2) };

fn connect(url: &str) -> RedisStatuses {
    statuses_of(&RedisSettings::new(url))
}

fn statuses_of(settings: &RedisSettings) -> RedisStatuses {
    RedisStatuses::new(settings, &rule(), MAX_SOURCES).unwrap().with_times(TIMES)
}

fn of(negative: i64, positive: i64) -> StatusCounts {
    StatusCounts { negative, revoked: 0, positive }
}

/// Statuses of a node, with every source that is not listed.
fn statuses(listed: &[(&str, Listed)]) -> NodeStatuses {
    NodeStatuses { listed: listed.iter().map(|(source, listed)| ((*source).into(), *listed)).collect(), complete: true }
}

fn positive() -> Listed {
    Listed::Positive(of(0, 1_000))
}

fn node(cache: &dyn StatusCache, source: &str) -> Node {
    Node::of(source, cache.depth())
}

/// Caches the statuses of the node of `source`, which are not cached, as if they had just been read from the store.
async fn store(cache: &dyn StatusCache, source: &str, statuses: &NodeStatuses) {
    let version = cache.get(source, NOW).await.unwrap().version.unwrap();
    cache.fill(version, NOW, node(cache, source), statuses).await.unwrap();
}

/// The renewal of a processor that has all partitions.
fn renewal(partitions: u32, from: Option<CacheMillis>, as_of: Option<Millis>) -> Renewal {
    let on = (0..partitions).map(|partition| (Partition::try_from(partition).unwrap(), 0)).collect();
    Renewal { epoch: 0, on, partitions, from, as_of }
}

/// The epoch of the cache; 0 if it has none.
async fn epoch_of(cache: &dyn StatusCache) -> Epoch {
    match cache.renew(&Renewal::default()).await.unwrap() {
        Renewed::LaterEpoch(epoch) => epoch,
        Renewed::Lost => 0,
        Renewed::At(time) => panic!("renewed before the first epoch, at {time}"),
    }
}

/// `renewal` in the epoch of the cache.
async fn renew_in_epoch(cache: &dyn StatusCache, renewal: Renewal) -> Result<Renewed, CacheError> {
    cache.renew(&Renewal { epoch: epoch_of(cache).await, ..renewal }).await
}

async fn time_of(cache: &dyn StatusCache) -> CacheMillis {
    match renew_in_epoch(cache, Renewal::default()).await.unwrap() {
        Renewed::At(time) => time,
        other => panic!("not renewed: {other:?}"),
    }
}

/// Begins an epoch, and waits until the cache may be used.
async fn open(cache: &dyn StatusCache) {
    cache.begin_epoch(Uuid::now_v7(), Access::Open, 0).await.unwrap();
    let opened = async {
        while cache.get("a", NOW).await.unwrap().version.is_none() {
            renew(cache, None).await;
        }
    };
    timeout(Duration::from_secs(10), opened).await.unwrap();
}

/// Renews the lease of the only partition.
async fn renew(cache: &dyn StatusCache, as_of: Option<Millis>) {
    let from = Some(time_of(cache).await);
    renew_in_epoch(cache, renewal(1, from, Some(as_of.unwrap_or(1)))).await.unwrap();
}

/// Holds that drop the statuses of `nodes` in any case.
fn dropping(nodes: &[Node]) -> Vec<NodeHold> {
    nodes.iter().copied().map(NodeHold::dropping).collect()
}

async fn drop_statuses(cache: &dyn StatusCache, nodes: &[Node]) {
    let id = Uuid::now_v7();
    cache.hold(id, &dropping(nodes)).await.unwrap();
    cache.release(id, nodes).await.unwrap();
}

macro_rules! contract {
    ($($promise:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(std::sync::Arc::new(super::MemoryStatuses::new(1, super::TIMES))).await;
            })*
        }
        /// Over TLS, with no more permissions than a processor has.
        mod in_redis_as_processor {
            $(#[tokio::test]
            async fn $promise() {
                let cache = super::EncryptedCache::start().await;
                super::$promise(std::sync::Arc::new(super::statuses_of(&cache.settings("processor")))).await;
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
    sources_that_are_not_listed_are_unknown
    statuses_expire
    a_new_epoch_invalidates_statuses
    statuses_read_before_an_epoch_are_not_used_in_it
    nothing_is_cached_while_a_node_is_held_nor_what_was_read_before
    a_node_may_have_several_holds
    statuses_stay_that_meet_all_conditions_of_a_hold
    a_hold_expires
    a_closed_cache_is_not_used_until_its_owner_opens_it
    a_cache_without_a_lease_is_not_used
    a_late_renewal_renews_nothing
    a_cache_that_went_back_is_not_used
    a_cache_of_another_epoch_renews_nothing
    an_epoch_begins_after_those_that_are_known
    the_watermark_is_that_of_the_slowest_partition
}

async fn cached(cache: &Arc<dyn StatusCache>, source: &str, now: Minute) -> Cached {
    cache.get(source, now).await.unwrap().status
}

async fn the_watermark_is_that_of_the_slowest_partition(cache: Arc<dyn StatusCache>) {
    let epoch = cache.begin_epoch(Uuid::now_v7(), Access::Open, 0).await.unwrap();
    let watermark = |as_of, on: &[Partition]| {
        let on = on.iter().map(|partition| (*partition, 0)).collect();
        Renewal { epoch, on, partitions: 2, from: None, as_of: Some(as_of) }
    };
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 0);
    for (as_of, on, all) in [(5_000, 0, 0), (6_000, 1, 5_000), (7_000, 0, 6_000), (4_000, 1, 6_000), (9_000, 1, 7_000)]
    {
        cache.renew(&watermark(as_of, &[on])).await.unwrap();
        assert_eq!(cache.get("a", NOW).await.unwrap().as_of, all, "{as_of} on {on}");
    }
    cache.renew(&watermark(10_000, &[0, 1])).await.unwrap();
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 10_000);
}

async fn sources_that_are_not_listed_are_unknown(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
    let revoked = StatusCounts { negative: 1, revoked: 3, positive: 7 };
    let listed = [("a", positive()), ("near", Listed::Near), ("revoked 1:2", Listed::Negative(revoked))];
    store(&*cache, "a", &statuses(&listed)).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(of(0, 1_000)));
    // The others of the same node, and no others.
    let (mut unknown, mut nothing) = (0, 0);
    for source in (0..50).map(|number| format!("source-{number}")) {
        let same = node(&*cache, &source) == node(&*cache, "a");
        let expected = if same { Cached::Unknown } else { Cached::Nothing };
        assert_eq!(cached(&cache, &source, NOW).await, expected, "{source}");
        *if same { &mut unknown } else { &mut nothing } += 1;
    }
    assert!(unknown > 0 && nothing > 0);
    for (source, expected) in [("near", Cached::Nothing), ("revoked 1:2", Cached::Decided(revoked))] {
        drop_statuses(&*cache, &[node(&*cache, source)]).await;
        store(&*cache, source, &statuses(&listed)).await;
        let answer = cache.get(source, NOW).await.unwrap();
        assert_eq!((answer.status, answer.version), (expected, None), "{source}");
    }
    drop_statuses(&*cache, &[node(&*cache, "a")]).await;
    let incomplete = NodeStatuses { complete: false, ..statuses(&[("a", positive())]) };
    store(&*cache, "a", &incomplete).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(of(0, 1_000)));
    for source in (0..50).map(|number| format!("source-{number}")) {
        if node(&*cache, &source) == node(&*cache, "a") {
            assert_eq!(cached(&cache, &source, NOW).await, Cached::Nothing, "{source}");
        }
    }
}

async fn statuses_expire(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    store(&*cache, "a", &statuses(&[("a", positive())])).await;
    let later = Minute(NOW.0 + CACHE_TTL_MINUTES);
    assert_eq!(cached(&cache, "a", Minute(later.0 - 1)).await, Cached::Decided(of(0, 1_000)));
    assert_eq!(cached(&cache, "a", later).await, Cached::Nothing);
}

/// Not even a negative status outlives its epoch: the processor that was lost may have counted a revocation.
async fn a_new_epoch_invalidates_statuses(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let listed = statuses(&[("a", Listed::Negative(of(1, 7)))]);
    store(&*cache, "a", &listed).await;
    open(&*cache).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
    store(&*cache, "a", &listed).await;
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(of(1, 7)));
}

async fn statuses_read_before_an_epoch_are_not_used_in_it(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let before = cache.get("a", NOW).await.unwrap().version.unwrap();
    open(&*cache).await;
    cache.fill(before, NOW, node(&*cache, "a"), &statuses(&[])).await.unwrap();
    assert_eq!(cached(&cache, "a", NOW).await, Cached::Nothing);
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
    let cache = statuses_of(&settings);
    open(&cache).await;
    store(&cache, "a", &statuses(&[("a", positive())])).await;
    renew(&cache, Some(5_000)).await;
    let behind = connect(&second.url());
    open(&behind).await;
    store(&behind, "a", &statuses(&[])).await;
    assert_eq!(cache.get("a", NOW).await.unwrap().as_of, 5_000);
    target.send(second.url()).unwrap();
    let answer_of_the_second = async {
        loop {
            match cache.get("a", NOW).await {
                Ok(status) if status.status == Cached::Unknown => return status,
                // The first server answers until the connection is cut; then one error follows.
                Ok(_) | Err(_) => yield_now().await,
            }
        }
    };
    let status = timeout(Duration::from_secs(10), answer_of_the_second).await.unwrap();
    assert_eq!(status.as_of, 1, "the watermark of the first server, applied to the second");
}

/// The cache is bounded. Prints the bytes per source.
#[tokio::test]
async fn redis_lists_no_more_sources_than_configured() {
    const SOURCES: u32 = 20_000;
    let redis = Redis::start().await.unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut memory = async || {
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().to_owned();
        line.trim().parse::<i64>().unwrap()
    };
    let cache = RedisStatuses::new(&RedisSettings::new(redis.url()), &rule(), SOURCES).unwrap().with_times(TIMES);
    open(&cache).await;
    let positive: KindCounts = [("delivered".into(), 1_000)].into();
    let before = memory().await;
    // Of each node, twice as many as are listed.
    let nodes = 1 << cache.depth();
    let mut sources: BTreeMap<Node, BTreeMap<Box<str>, KindCounts>> = BTreeMap::new();
    for name in (0..2 * MAX_LISTED * nodes).map(|number| format!("source-{number}.example.com")) {
        sources.entry(node(&cache, &name)).or_default().insert(name.into(), positive.clone());
    }
    for sources in sources.values() {
        store(&cache, sources.keys().next().unwrap(), &NodeStatuses::new(&rule(), sources)).await;
    }
    let used = memory().await - before;
    let mut listed = 0;
    for source in sources.values().flat_map(BTreeMap::keys) {
        match cache.get(source, NOW).await.unwrap().status {
            Cached::Decided(counts) => {
                assert_eq!(counts, of(0, 1_000));
                listed += 1;
            }
            status => assert_eq!(status, Cached::Nothing),
        }
    }
    println!("{listed} sources listed, {} bytes each", used / listed);
    assert!(listed <= i64::from(SOURCES) && listed > i64::from(SOURCES) / 2, "{listed} listed");
}

/// A server reads statuses, and caches those that it had to read from the store.
#[tokio::test]
async fn a_server_may_read_and_cache_statuses_but_not_begin_an_epoch() {
    let cache = EncryptedCache::start().await;
    let as_user = |name: &str| statuses_of(&cache.settings(name));
    let (processor, server) = (as_user("processor"), as_user("server"));
    open(&processor).await;
    store(&server, "a", &statuses(&[("a", positive())])).await;
    assert_eq!(processor.get("a", NOW).await.unwrap().status, Cached::Decided(of(0, 1_000)));
    let refused = server.begin_epoch(Uuid::now_v7(), Access::Open, 0).await.unwrap_err();
    let refused = ping_ports::chain(&refused);
    // In the words of Redis 7, and of Valkey 8.
    assert!(["can't run this command", "no permissions to run"].iter().any(|text| refused.contains(text)), "{refused}");
    assert!(server.hold(Uuid::now_v7(), &dropping(&[node(&server, "a")])).await.is_err());
    assert!(renew_in_epoch(&server, renewal(1, None, Some(5_000))).await.is_err());
}
