//! Every script of the statuses stops at every call. Whatever is left, no status may miss an event that its watermark includes.

use std::collections::BTreeSet;

use ping_core::StatusCounts;
use ping_ports::{CacheError, Cached, Listed, NodeStatuses, StatusCache, StatusWatermark};
use ping_redis::RedisStatuses;
use ping_segments::Node;

use crate::{
    NOW, connect,
    dragonfly::{Dragonfly, Fault, Keyspace},
    node, of, statuses,
};

const SOURCES: [&str; 3] = ["a", "b", "c"];
const PARTITIONS: u32 = 2;

/// What a processor does for its `round`-th flush, in this order; the first only after a failure. Each source then has `round` events. At
/// last a server reads all of them, and caches what it had to read from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    BeginEpoch,
    Invalidate,
    Advance,
    Fill,
}

const STEPS: [Step; 4] = [Step::BeginEpoch, Step::Invalidate, Step::Advance, Step::Fill];

/// The watermark of a flush.
fn as_of(round: i64) -> i64 {
    round * 1_000
}

/// What the store has in a round. To the cache it is all the same whether a threshold is reached.
fn stored(round: i64) -> NodeStatuses {
    statuses(&SOURCES.map(|source| (source, Listed::Decided(of(0, round)))))
}

fn nodes(cache: &RedisStatuses) -> BTreeSet<Node> {
    SOURCES.iter().map(|source| node(cache, source)).collect()
}

async fn perform(cache: &RedisStatuses, step: Step, round: i64) -> Result<(), CacheError> {
    match step {
        Step::BeginEpoch => cache.begin_epoch().await,
        Step::Invalidate => cache.invalidate(&nodes(cache).into_iter().collect::<Vec<_>>()).await,
        Step::Fill => {
            for source in SOURCES {
                // A server caches what it does not find only.
                let found = cache.get(source, NOW).await?;
                if found.status == Cached::Nothing {
                    cache.fill(found.version, NOW, node(cache, source), &stored(round)).await?;
                }
            }
            Ok(())
        }
        Step::Advance => {
            let watermark = StatusWatermark { as_of: as_of(round), on: vec![0, 1], partitions: PARTITIONS };
            cache.advance_watermark(&watermark).await
        }
    }
}

/// Fails if a cached status misses an event that it claims to include, or counts one that does not exist. True if all are cached with
/// the watermark of `round`.
async fn is_true(cache: &RedisStatuses, round: i64) -> Result<bool, String> {
    let mut current = true;
    for source in SOURCES {
        let status = cache.get(source, NOW).await.unwrap();
        let Cached::Decided(StatusCounts { positive, .. }) = status.status else {
            current = false;
            continue;
        };
        if as_of(positive) < status.as_of || positive > round {
            return Err(format!("{source} has {positive} events, but as_of is {}, in round {round}", status.as_of));
        }
        current &= (positive, status.as_of) == (round, as_of(round));
    }
    Ok(current)
}

/// Makes one step of the second round fail at every call. Returns the number of cases, and what was left.
async fn cut(
    server: &Dragonfly,
    before: &Keyspace,
    failing: Step,
    after_failure: bool,
) -> Result<(usize, BTreeSet<Keyspace>), String> {
    let (mut cases, mut left) = (0, BTreeSet::new());
    for fault in [Fault::Refused, Fault::OutOfMemory, Fault::Stopped] {
        for call in 1.. {
            // No header is left from the last case.
            let cache = connect(&server.url());
            server.restore(before);
            let version = cache.get("a", NOW).await.unwrap().version;
            for step in STEPS.into_iter().skip(usize::from(!after_failure)).take_while(|step| *step != failing) {
                perform(&cache, step, 2).await.unwrap();
            }
            server.fail(fault(call));
            let outcome = perform(&cache, failing, 2).await;
            if !server.stop_failing() {
                break;
            }
            let context = |wrong| format!("{failing:?} with {:?} on {before:?}: {wrong}", fault(call));
            if outcome.is_ok() {
                return Err(context("the caller is not told".into()));
            }
            is_true(&cache, 2).await.map_err(context)?;
            left.insert(server.keyspace());
            // A slow server stores what it read before, and another one what it reads now; then the processor continues.
            cache.fill(version, NOW, node(&cache, "a"), &stored(1)).await.unwrap();
            is_true(&cache, 2).await.map_err(context)?;
            perform(&cache, Step::Fill, 2).await.unwrap();
            is_true(&cache, 2).await.map_err(context)?;
            for step in STEPS {
                perform(&cache, step, 3).await.unwrap();
                is_true(&cache, 3).await.map_err(context)?;
            }
            if !is_true(&cache, 3).await.map_err(context)? {
                return Err(context("the next flush does not recover".into()));
            }
            cases += 1;
        }
    }
    Ok((cases, left))
}

async fn explore(server: &Dragonfly) -> Result<usize, String> {
    let empty = server.keyspace();
    let cache = connect(&server.url());
    for step in STEPS {
        perform(&cache, step, 1).await.unwrap();
    }
    let (mut cases, mut partly_written) = (0, BTreeSet::new());
    for before in [empty, server.keyspace()] {
        for failing in [Step::Invalidate, Step::Advance, Step::Fill] {
            let (more, left) = cut(server, &before, failing, false).await?;
            cases += more;
            partly_written.extend(left);
        }
    }
    for before in partly_written {
        for failing in [Step::Invalidate, Step::Advance, Step::Fill] {
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
        ("invalidate.lua forgets a node", "for index = 1, #KEYS, 2 do", "for index = 3, #KEYS, 2 do"),
        (
            "invalidate.lua ignores that a deletion is refused",
            "redis.call('DEL', KEYS[index])",
            "redis.pcall('DEL', KEYS[index])",
        ),
        ("fill.lua ignores invalidations", "~= ARGV[1] then", "== '' then"),
        (
            "fill.lua ignores that a write is refused",
            "redis.call('SET', KEYS[1], ARGV[2])",
            "redis.pcall('SET', KEYS[1], ARGV[2])",
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
