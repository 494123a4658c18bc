use std::time::Duration;

use ping_core::Millis;
use ping_memory::{MemoryStatuses, MemoryStore};
use ping_ports::{Access, NodeHold, Renewal, Renewed, StatusTimes};
use uuid::Uuid;

use super::*;

const NOW: Millis = 1_728_926_331_000;
const DEPTH: u32 = 8;

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Millis {
        NOW
    }
}

/// An empty cache that is in use.
async fn cache() -> Arc<MemoryStatuses> {
    let cache = MemoryStatuses::new(DEPTH, StatusTimes { lease: Duration::from_secs(60), ..StatusTimes::default() });
    let epoch = cache.begin_epoch(Uuid::nil(), Access::Open, 0).await.unwrap();
    let renewal = Renewal { epoch, on: [(0, 0)].into(), partitions: 1, ..Renewal::default() };
    let Renewed::At(time) = cache.renew(&renewal).await.unwrap() else { panic!("not renewed") };
    cache.renew(&Renewal { from: Some(time), ..renewal }).await.unwrap();
    Arc::new(cache)
}

fn query(cache: &Arc<MemoryStatuses>) -> StatusQuery {
    let rule = StatusRule { negative_when: "failed=1".parse().unwrap(), positive_when: "succeeded=9".parse().unwrap() };
    let clock = Arc::new(Stopped);
    StatusQuery::new(rule, cache.clone(), Arc::new(MemoryStore::new(clock.clone())), clock)
}

/// A source of another node than that of `source`, in its group or not.
fn neighbour(source: &str, in_group: bool) -> String {
    let names = (0..).map(|number| format!("source-{number}"));
    let is_neighbour = |name: &String| {
        let [node, other] = [source, name].map(|name| Node::of(name, DEPTH));
        node != other && (node.0 >> GROUP_LEVELS == other.0 >> GROUP_LEVELS) == in_group
    };
    names.into_iter().find(is_neighbour).unwrap()
}

#[tokio::test]
async fn a_read_of_the_store_caches_the_statuses_of_the_whole_group() {
    let cache = cache().await;
    let is_cached = async |source: String| query(&cache).of(&source).await.unwrap().value.cached;
    assert!(!is_cached("a".into()).await);
    assert!(is_cached("a".into()).await);
    assert!(is_cached(neighbour("a", true)).await);
    assert!(!is_cached(neighbour("a", false)).await);
}

#[tokio::test]
async fn a_node_that_is_held_is_left_out_of_its_group() {
    let cache = cache().await;
    let held = neighbour("a", true);
    cache.hold(Uuid::nil(), &[NodeHold::dropping(Node::of(&held, DEPTH))]).await.unwrap();
    query(&cache).of("a").await.unwrap();
    assert!(query(&cache).of("a").await.unwrap().value.cached);
    assert!(!query(&cache).of(&held).await.unwrap().value.cached);
}

#[tokio::test]
async fn a_group_near_the_root_has_fewer_nodes() {
    let cache = cache().await;
    let version = CacheVersion { epoch: 7, changes: 0 };
    for (node, top, size) in [(1, 1, 1), (3, 1, 2), (6, 1, 4), (15, 1, 8), (16, 2, 8)] {
        let group = Group::of(Node(node), version, &*cache).await;
        assert_eq!((group.top, group.nodes.len()), (Node(top), size), "{node}");
        assert_eq!(group.nodes[&Node(node)], version);
    }
}
