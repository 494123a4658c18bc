//! Every script of the statuses stops at every call. Whatever is left, no cached status may differ from the store's.

use std::collections::BTreeSet;

use ping_core::StatusCounts;
use ping_ports::{
    Access, CacheError, CacheMillis, CacheVersion, Cached, Epoch, Listed, NodeHold, NodeStatuses, Renewal, StatusCache,
    Unless,
};
use ping_redis::RedisStatuses;
use ping_segments::Node;
use uuid::Uuid;

use crate::{
    NOW, TIMES, connect,
    dragonfly::{Dragonfly, Fault, Keyspace},
    epoch_of, node, of, renewal, statuses,
};

const SOURCES: [&str; 3] = ["a", "b", "c"];
const PARTITIONS: u32 = 2;
/// The time at which the clock of the server stands still at first.
const START: CacheMillis = 1_000_000;

/// What a processor does for its `round`-th checkpoint, in this order; the first only after a failure. The checkpoint takes effect between
/// the hold and the release. Each source then has `round` events. At last a server reads all of them, and caches what it had to read from
/// the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    BeginEpoch,
    Hold,
    Release,
    Renew,
    Fill,
}

/// How a call fails, as [`Fault`].
const FAULTS: [fn(usize) -> Fault; 3] = [Fault::Refused, Fault::OutOfMemory, Fault::Stopped];

const STEPS: [Step; 5] = [Step::BeginEpoch, Step::Hold, Step::Release, Step::Renew, Step::Fill];

/// Whether a step comes before the checkpoint takes effect.
fn is_before(step: Step) -> bool {
    matches!(step, Step::BeginEpoch | Step::Hold)
}

/// The watermark of a checkpoint.
fn as_of(round: i64) -> i64 {
    round * 1_000
}

/// What the store has in a round. To the cache it is all the same whether a threshold is reached.
fn stored(round: i64) -> NodeStatuses {
    statuses(&SOURCES.map(|source| (source, Listed::Positive(of(0, round)))))
}

fn nodes(cache: &RedisStatuses) -> Vec<Node> {
    Vec::from_iter(BTreeSet::from_iter(SOURCES.iter().map(|source| node(cache, source))))
}

/// Holds with conditions that are not all met: the statuses are dropped.
fn holds(cache: &RedisStatuses) -> Vec<NodeHold> {
    let unless = [Unless::Decided("a".into()), Unless::Negative("b".into()), Unless::Decided("c".into())];
    nodes(cache).into_iter().map(|node| NodeHold { node, unless: unless.to_vec() }).collect()
}

/// The hold of a round.
fn hold(round: i64) -> Uuid {
    Uuid::from_u128(u128::try_from(round).unwrap())
}

async fn perform(cache: &RedisStatuses, step: Step, round: i64) -> Result<(), CacheError> {
    perform_in(known_epoch(cache, step).await, cache, step, round).await
}

/// The epoch that a processor must know for `step`.
async fn known_epoch(cache: &RedisStatuses, step: Step) -> Epoch {
    if step == Step::Renew { epoch_of(cache).await } else { 0 }
}

/// As a processor that knows `epoch`.
async fn perform_in(epoch: Epoch, cache: &RedisStatuses, step: Step, round: i64) -> Result<(), CacheError> {
    match step {
        Step::BeginEpoch => cache.begin_epoch(Uuid::from_u128(99), Access::Open, 0).await.map(|_| ()),
        Step::Hold => cache.hold(hold(round), &holds(cache)).await,
        Step::Release => cache.release(hold(round), &nodes(cache)).await,
        Step::Renew => {
            let renewal = Renewal { epoch, ..renewal(PARTITIONS, Some(START), Some(as_of(round))) };
            cache.renew(&renewal).await.map(|_| ())
        }
        Step::Fill => {
            for source in SOURCES {
                if let Some(version) = cache.get(source, NOW).await?.version {
                    cache.fill(version, NOW, node(cache, source), &stored(round)).await?;
                }
            }
            Ok(())
        }
    }
}

/// Fails if a cached status differs from that of the store, which has `round` events, or has a later watermark. True if all are cached with
/// its watermark.
async fn is_true(cache: &RedisStatuses, round: i64) -> Result<bool, String> {
    let mut current = true;
    for source in SOURCES {
        let status = cache.get(source, NOW).await.unwrap();
        let Cached::Decided(StatusCounts { positive, .. }) = status.status else {
            current = false;
            continue;
        };
        if positive != round || as_of(positive) < status.as_of {
            return Err(format!("{source} has {positive} events, as_of is {}, in round {round}", status.as_of));
        }
        current &= status.as_of == as_of(round);
    }
    Ok(current)
}

/// Caches what a slow server read from the store in `round`, at the time of `version`.
async fn fill_late(cache: &RedisStatuses, versions: &[Option<CacheVersion>], round: i64) {
    for version in versions.iter().flatten() {
        cache.fill(*version, NOW, node(cache, "a"), &stored(round)).await.unwrap();
    }
}

/// A whole checkpoint, and servers that are slow: what they read before it is never cached afterwards.
async fn checkpoint(cache: &RedisStatuses, round: i64, steps: &[Step]) -> Result<(), String> {
    let version = async || cache.get("a", NOW).await.unwrap().version;
    let mut versions = vec![version().await];
    for step in steps {
        perform(cache, *step, round).await.unwrap();
        if is_before(*step) {
            versions.push(version().await);
        }
        let answer = cache.get("a", NOW).await.unwrap();
        if *step == Step::BeginEpoch && (answer.version, answer.status) != (None, Cached::Nothing) {
            return Err("the cache is used before a renewal".into());
        }
        fill_late(cache, &versions, round - 1).await;
        is_true(cache, if *step == Step::BeginEpoch { round - 1 } else { round }).await?;
    }
    Ok(())
}

/// Keys, and how many events the store has.
type Remaining = BTreeSet<(Keyspace, i64)>;

/// Makes one step of the next checkpoint fail at every call. Returns the number of cases, and what was left.
async fn cut(
    server: &Dragonfly,
    before: &(Keyspace, i64),
    failing: Step,
    after_failure: bool,
) -> Result<(usize, Remaining), String> {
    let ((before, stored), mut cases, mut left) = (before, 0, Remaining::new());
    for fault in FAULTS {
        for call in 1.. {
            let cache = connect(&server.url());
            server.restore(before);
            let mut versions = vec![cache.get("a", NOW).await.unwrap().version];
            for step in STEPS.into_iter().skip(usize::from(!after_failure)).take_while(|step| *step != failing) {
                perform(&cache, step, stored + 1).await.unwrap();
                if is_before(step) {
                    versions.push(cache.get("a", NOW).await.unwrap().version);
                }
            }
            let epoch = known_epoch(&cache, failing).await;
            server.fail(fault(call));
            let outcome = perform_in(epoch, &cache, failing, stored + 1).await;
            if !server.stop_failing() {
                break;
            }
            let context = |wrong| format!("{failing:?} with {:?} on {before:?}: {wrong}", fault(call));
            if outcome.is_ok() {
                return Err(context("the caller is not told".into()));
            }
            // Without a hold, there is no checkpoint.
            let round = if is_before(failing) { *stored } else { stored + 1 };
            is_true(&cache, round).await.map_err(context)?;
            left.insert((server.keyspace(), round));
            // A slow server stores what it read before, and another one what it reads now.
            fill_late(&cache, &versions, *stored).await;
            is_true(&cache, round).await.map_err(context)?;
            perform(&cache, Step::Fill, round).await.unwrap();
            is_true(&cache, round).await.map_err(context)?;
            // Then the processor continues, and holds expire that it has lost.
            checkpoint(&cache, round + 1, &STEPS).await.map_err(context)?;
            server.advance_clock(i64::try_from(TIMES.hold.as_millis()).unwrap());
            perform(&cache, Step::Renew, round + 1).await.unwrap();
            perform(&cache, Step::Fill, round + 1).await.unwrap();
            if !is_true(&cache, round + 1).await.map_err(context)? {
                return Err(context("the next checkpoint does not recover".into()));
            }
            cases += 1;
        }
    }
    Ok((cases, left))
}

/// A processor begins an epoch and writes a checkpoint; then the cache goes back to `earlier`, which is older than a lease. No renewal opens
/// it, whichever call of it fails. Returns the number of cases.
async fn cut_after_going_back(server: &Dragonfly, earlier: &Keyspace) -> Result<usize, String> {
    let (lease, hold) = (TIMES.lease.as_millis(), TIMES.hold.as_millis());
    let [lease, hold] = [lease, hold].map(|time| i64::try_from(time).unwrap());
    let mut cases = 0;
    for fault in FAULTS {
        for call in 1.. {
            let cache = connect(&server.url());
            server.restore(earlier);
            let epoch = cache.begin_epoch(Uuid::from_u128(99), Access::Open, 0).await.unwrap();
            server.restore(earlier);
            server.advance_clock(lease);
            let renewal = Renewal { epoch, ..renewal(PARTITIONS, Some(START + hold + lease), Some(as_of(2))) };
            server.fail(fault(call));
            let renewed = cache.renew(&renewal).await;
            let failed = server.stop_failing();
            let context = |wrong| format!("{:?} after going back to {earlier:?}, {renewed:?}: {wrong}", fault(call));
            is_true(&cache, 2).await.map_err(context)?;
            if !failed {
                break;
            }
            cases += 1;
        }
    }
    Ok(cases)
}

async fn explore(server: &Dragonfly) -> Result<usize, String> {
    server.advance_clock(0);
    let empty = server.keyspace();
    let cache = connect(&server.url());
    checkpoint(&cache, 1, &STEPS).await?;
    let closed = server.keyspace();
    server.advance_clock(i64::try_from(TIMES.hold.as_millis()).unwrap());
    perform(&cache, Step::Renew, 1).await.unwrap();
    perform(&cache, Step::Fill, 1).await.unwrap();
    if !is_true(&cache, 1).await? {
        return Err("nothing is cached".into());
    }
    let open = server.keyspace();
    let (mut cases, mut partly_written) = (cut_after_going_back(server, &open).await?, Remaining::new());
    for before in [empty, closed, open] {
        for failing in STEPS {
            let (more, left) = cut(server, &(before.clone(), 1), failing, failing == Step::BeginEpoch).await?;
            cases += more;
            partly_written.extend(left);
        }
    }
    for before in partly_written {
        for failing in [Step::Hold, Step::Release, Step::Renew] {
            cases += cut(server, &before, failing, true).await?.0;
        }
    }
    Ok(cases)
}

#[tokio::test]
async fn a_script_may_stop_at_any_call() {
    let cases = explore(&Dragonfly::start().await).await.unwrap();
    println!("{cases} cases");
    assert!(cases > 200);
}

#[tokio::test]
async fn every_planted_bug_is_caught() {
    let planted = [
        ("hold.lua forgets a node", "for index = 1, #KEYS, 2 do\n  local", "for index = 3, #KEYS, 2 do\n  local"),
        ("hold.lua ignores that a deletion is refused", "call('DEL', statuses)", "pcall('DEL', statuses)"),
        ("hold.lua looks at the first condition only", "for index = first, last do", "for index = first, first do"),
        ("hold.lua ignores that a hold is refused", "call('HSET', holds,", "pcall('HSET', holds,"),
        ("release.lua does not count", "redis.call('HINCRBY', KEYS[index], 'changes', 1)", ""),
        ("fill.lua ignores changes", "if changes ~= ARGV[1] then", "if changes == '' then"),
        ("fill.lua ignores holds", "> now then", "> now + 1000000 then"),
        ("fill.lua ignores that a write is refused", "call('SET', KEYS[1], ARGV[2]", "pcall('SET', KEYS[1], ARGV[2]"),
        ("begin_epoch.lua leaves the last epoch open", "redis.call('DEL', open_key)", ""),
        ("begin_epoch.lua ignores that a deletion is refused", "call('DEL', open_key)", "pcall('DEL', open_key)"),
        ("renew.lua takes any epoch", "tonumber(epoch) >= known", "tonumber(epoch) >= 0"),
        (
            "renew.lua ignores that a lease is refused",
            "call('HSET', leases_key, partition",
            "pcall('HSET', leases_key, partition",
        ),
    ];
    for (name, from, to) in planted {
        let server = Dragonfly::start().await;
        server.plant(from, to);
        let caught = explore(&server).await;
        assert!(server.is_planted(), "{name}: no script contains {from:?}");
        println!("{name}: {:.200}", caught.expect_err(name));
    }
}
