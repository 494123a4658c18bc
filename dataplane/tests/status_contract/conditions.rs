//! Statuses that stay although their node is held: the checkpoint does not change them.

use std::sync::Arc;

use ping_core::StatusCounts;
use ping_ports::{CacheVersion, Cached, Listed, NodeHold, NodeStatuses, StatusCache, Unless};
use ping_segments::Node;
use uuid::Uuid;

use crate::{NOW, cached, connect, dragonfly::Dragonfly, epoch_of, node, of, open, positive, statuses, store};

const NEGATIVE: StatusCounts = StatusCounts { negative: 1, revoked: 0, positive: 0 };

/// Holds the node of `a` with `unless`, and releases it. What servers read before and meanwhile is not cached. Returns whether its
/// statuses stayed.
async fn stays(cache: &dyn StatusCache, unless: &[Unless]) -> bool {
    let (id, here) = (Uuid::now_v7(), node(cache, "a"));
    let epoch = epoch_of(cache).await;
    let version = async || cache.versions(epoch, &[here]).await.unwrap()[0];
    let (before, held) = (version().await, NodeHold { node: here, unless: unless.to_vec() });
    cache.hold(id, &[NodeHold::dropping(Node(1_000)), held.clone()]).await.unwrap();
    let after_hold = cache.get("a", NOW).await.unwrap().status;
    cache.hold(id, &[held]).await.unwrap();
    let meanwhile = version().await;
    refuses(cache, &[before, meanwhile]).await;
    cache.release(id, &[here]).await.unwrap();
    refuses(cache, &[before, meanwhile]).await;
    let status = cache.get("a", NOW).await.unwrap().status;
    assert_eq!(status, after_hold, "{unless:?}");
    status != Cached::Nothing
}

/// Fails if statuses of one of the `versions` are cached.
async fn refuses(cache: &dyn StatusCache, versions: &[CacheVersion]) {
    let outdated = StatusCounts { positive: 12_345, ..StatusCounts::default() };
    for version in versions {
        cache.fill(*version, NOW, node(cache, "a"), &statuses(&[("a", Listed::Positive(outdated))])).await.unwrap();
        assert_ne!(cache.get("a", NOW).await.unwrap().status, Cached::Decided(outdated));
    }
}

pub(crate) async fn statuses_stay_that_meet_all_conditions_of_a_hold(cache: Arc<dyn StatusCache>) {
    open(&*cache).await;
    let forged = [("x;forged:n:1:0:0", positive()), (";forged:n:", positive()), ("forged%3An", positive())];
    let listed = [("a", Listed::Negative(NEGATIVE)), ("%;:", Listed::Negative(NEGATIVE)), ("positive", positive())];
    let listed = statuses(&[&listed[..], &[("near", Listed::Near)], &forged].concat());
    let negative = |source: &str| Unless::Negative(source.into());
    let decided = |source: &str| Unless::Decided(source.into());
    let cases: [(&[Unless], bool); 13] = [
        (&[], false),
        (&[negative("a")], true),
        (&[decided("a")], true),
        (&[negative("%;:"), decided("positive"), negative("a")], true),
        (&[negative("positive")], false),
        (&[negative("a"), negative("positive")], false),
        (&[negative("positive"), negative("a")], false),
        (&[decided("near")], false),
        (&[negative("near")], false),
        (&[decided("other")], false),
        (&[negative("forged")], false),
        (&[decided("forged")], false),
        (&[decided("")], false),
    ];
    for (unless, expected) in cases {
        if cached(&cache, "a", NOW).await == Cached::Nothing {
            store(&*cache, "a", &listed).await;
        }
        assert_eq!(cached(&cache, "a", NOW).await, Cached::Decided(NEGATIVE));
        assert_eq!(stays(&*cache, unless).await, expected, "{unless:?}");
    }
    // Nothing is cached that could stay.
    assert!(!stays(&*cache, &[negative("a")]).await);
    // One of a source that was left out may be negative or not.
    store(&*cache, "a", &NodeStatuses { complete: false, ..listed }).await;
    assert!(!stays(&*cache, &[negative("other")]).await);
    store(&*cache, "a", &statuses(&[("a", Listed::Positive(of(0, 1_000)))])).await;
    assert!(!stays(&*cache, &[negative("a")]).await);
}

/// Statuses that stay must be held, too: another processor may revoke them before the checkpoint takes effect, and a server may cache
/// what it reads in between.
#[tokio::test]
async fn a_hold_of_dropped_statuses_only_is_noticed() {
    let server = Dragonfly::start().await;
    server.plant(
        "redis.call('HSET', holds, id, held_until)",
        "if not stay(statuses, conditions + 1, last) then redis.call('HSET', holds, id, held_until) end",
    );
    let cache = Arc::new(connect(&server.url()));
    let outcome = tokio::spawn(statuses_stay_that_meet_all_conditions_of_a_hold(cache)).await;
    assert!(server.is_planted() && outcome.is_err_and(|error| error.is_panic()));
}
