//! Every script of the counters stops at every call, on an empty, a full and every partly written cache. Whatever is left, no reader may
//! get a wrong count from it, and the next writer must recover. See docs/adr/0034.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ping_core::{Minute, Partition, Positions};
use ping_ports::{Applied, CacheError, CounterCache, Flush};
use ping_redis::RedisCache;

use crate::{
    dragonfly::{Dragonfly, Fault, Keyspace},
    fixture::{NOW, connect},
    truth::{self, Found, flush_after, large_flush_after, snapshot_after},
};

/// What a processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    /// Counts three events of one partition.
    Count,
    /// Counts events of both partitions, and advances the watermark.
    CountAll,
    /// Counts an event two hours later, when all minutes have expired.
    CountLater,
    /// Counts an event of each of many writers.
    CountMany,
    /// Advances the watermark.
    Advance,
    Rebuild,
    /// Rebuilds with the marks of many writers.
    RebuildMany,
    MarkSuspect,
    NoteAudit,
}

use Operation::{Advance, Count, CountAll, CountLater, CountMany, MarkSuspect, NoteAudit, Rebuild, RebuildMany};

/// What the cache holds, and the time.
type State = (Keyspace, Minute);

struct Explorer {
    server: Dragonfly,
    cache: Arc<RedisCache>,
    cases: usize,
    /// States that an interrupted operation left, and what readers find in them.
    left: BTreeMap<State, Found>,
    /// Operations after which other processors proceeded, with the state before and after them.
    proceeded: BTreeSet<(Operation, State, State)>,
}

impl Explorer {
    async fn start() -> Self {
        let server = Dragonfly::start().await;
        let cache = Arc::new(connect(&server.url()));
        Self { server, cache, cases: 0, left: BTreeMap::new(), proceeded: BTreeSet::new() }
    }

    /// An empty cache, a new one, and one with counts.
    async fn initial_states(&mut self, operation: Operation) -> Vec<State> {
        let mut states = vec![(self.server.keyspace(), NOW)];
        for operation in [operation, CountAll, Count] {
            self.perform(operation, NOW).await.unwrap();
            states.push((self.server.keyspace(), NOW));
        }
        states
    }

    /// Makes `operation` fail at every call, in every way.
    async fn cut(&mut self, state: &State, operation: Operation) -> Result<(), String> {
        for fault in [Fault::Refused, Fault::OutOfMemory, Fault::Stopped] {
            for call in 1.. {
                let cut = self.cut_at(state, operation, fault(call)).await;
                let was_cut =
                    cut.map_err(|wrong| format!("{wrong}: {operation:?} with {:?} on {state:?}", fault(call)))?;
                if !was_cut {
                    break;
                }
            }
        }
        Ok(())
    }

    /// False if the operation ended before the fault.
    async fn cut_at(&mut self, state: &State, operation: Operation, fault: Fault) -> Result<bool, String> {
        let (before, now) = state;
        self.server.restore(before);
        let known = self.cache.positions().await.unwrap();
        self.server.fail(fault);
        let outcome = self.perform(operation, *now).await;
        if !self.server.stop_failing() {
            return Ok(false);
        }
        let now = if operation == CountLater { later(*now) } else { *now };
        let after = (self.server.keyspace(), now);
        let found = match self.left.get(&after) {
            Some(found) => *found,
            None => self.verify(&after).await?,
        };
        if operation == MarkSuspect && outcome.is_ok() && known.is_some() && found == Found::Exact {
            return Err("the mark is missing".into());
        }
        if fault == Fault::OutOfMemory(1) && operation != MarkSuspect {
            if !matches!(outcome, Err(CacheError::Full(_))) {
                return Err(format!("the caller is not told that the cache is full, but {outcome:?}"));
            }
            if after.0 != *before {
                return Err(format!("a full cache changed to {after:?}"));
            }
        }
        if let Some(known) = &known
            && self.proceeded.insert((operation, state.clone(), after.clone()))
        {
            self.proceed(operation, known, &after).await?;
        }
        self.cases += 1;
        Ok(true)
    }

    /// What readers find in `left`, from which every other processor must be able to continue.
    async fn verify(&mut self, left: &State) -> Result<Found, String> {
        let found = truth::check(&*self.cache, left.1).await?;
        self.recover(left).await?;
        self.rebuild(left).await?;
        self.left.insert(left.clone(), found);
        Ok(found)
    }

    /// Processors that do not know what happened do the same again, or continue with their own partition.
    async fn proceed(&self, operation: Operation, known: &Positions, after: &State) -> Result<(), String> {
        let own = flush_after(known, &[(1, 1)], false, after.1);
        for flush in flush_of(operation, known, after.1).into_iter().chain([own]) {
            self.server.restore(&after.0);
            self.cache.apply(&flush).await.unwrap();
            truth::check(&*self.cache, after.1).await?;
        }
        Ok(())
    }

    /// The next processor continues, or rebuilds the cache.
    async fn recover(&self, after: &State) -> Result<(), String> {
        let now = after.1;
        self.server.restore(&after.0);
        for _ in 0..3 {
            let positions = self.cache.positions().await.unwrap();
            let generation = positions.as_ref().map(|positions| &positions.generation);
            let found = truth::check(&*self.cache, now).await?;
            match &positions {
                Some(positions) if found == Found::Exact => {
                    let flush = flush_after(positions, &[(0, 2), (1, 2)], true, now);
                    if self.cache.apply(&flush).await.unwrap() == Applied::Done {
                        return match truth::check(&*self.cache, now).await? {
                            Found::Exact => Ok(()),
                            found => Err(format!("{found:?} after a flush")),
                        };
                    }
                }
                _ => _ = self.cache.install(generation, &snapshot_after(generation, now, 0)).await.unwrap(),
            }
        }
        Err("the next processor does not recover".into())
    }

    /// Another processor rebuilds.
    async fn rebuild(&self, after: &State) -> Result<(), String> {
        self.server.restore(&after.0);
        let positions = self.cache.positions().await.unwrap();
        let generation = positions.as_ref().map(|positions| &positions.generation);
        let installed = self.cache.install(generation, &snapshot_after(generation, after.1, 0)).await.unwrap();
        match (installed, truth::check(&*self.cache, after.1).await?) {
            (true, Found::Exact) => Ok(()),
            other => Err(format!("{other:?} after a rebuild")),
        }
    }

    async fn perform(&self, operation: Operation, now: Minute) -> Result<(), CacheError> {
        let positions = self.cache.positions().await?;
        let known = positions.clone().unwrap_or_else(|| snapshot_after(None, now, 0).positions);
        let seen = positions.as_ref().map(|positions| &positions.generation);
        match operation {
            Rebuild => _ = self.cache.install(seen, &snapshot_after(seen, now, 0)).await?,
            RebuildMany => _ = self.cache.install(seen, &snapshot_after(seen, now, truth::MANY)).await?,
            MarkSuspect => self.cache.mark_suspect(&known.generation).await?,
            NoteAudit => self.cache.audited(&known.generation, 7).await?,
            Count | CountAll | CountLater | CountMany | Advance => {
                if let Some(flush) = flush_of(operation, &known, now) {
                    self.cache.apply(&flush).await?;
                }
            }
        }
        Ok(())
    }
}

fn later(now: Minute) -> Minute {
    Minute(now.0 + 120)
}

fn flush_of(operation: Operation, known: &Positions, now: Minute) -> Option<Flush> {
    let both: &[(Partition, i64)] = &[(0, 2), (1, 3)];
    match operation {
        Count => Some(flush_after(known, &[(0, 3)], false, now)),
        CountAll => Some(flush_after(known, both, true, now)),
        CountLater => Some(flush_after(known, &[(1, 1)], true, later(now))),
        CountMany => Some(large_flush_after(known, now)),
        Advance => Some(flush_after(known, &[], true, now)),
        Rebuild | RebuildMany | MarkSuspect | NoteAudit => None,
    }
}

#[tokio::test]
async fn a_script_may_stop_at_any_call() {
    let mut explorer = Explorer::start().await;
    for state in explorer.initial_states(Rebuild).await {
        for operation in [Count, CountAll, CountLater, Advance, Rebuild, MarkSuspect, NoteAudit] {
            explorer.cut(&state, operation).await.unwrap();
        }
    }
    for state in explorer.left.clone().into_keys() {
        for operation in [CountAll, Rebuild, MarkSuspect] {
            explorer.cut(&state, operation).await.unwrap();
        }
    }
    println!("{} cases, {} different states left", explorer.cases, explorer.left.len());
    assert!(explorer.cases > 1_000);
}

/// The same with more arguments than a script passes to one call.
#[tokio::test]
async fn a_script_with_many_arguments_may_stop_at_any_call() {
    let mut explorer = Explorer::start().await;
    for state in explorer.initial_states(RebuildMany).await {
        for operation in [CountMany, RebuildMany] {
            explorer.cut(&state, operation).await.unwrap();
        }
    }
    println!("{} cases, {} different states left", explorer.cases, explorer.left.len());
    assert!(explorer.cases > 100);
}

/// What makes the scripts safe, and each script without it.
const PLANTED: [(&str, &str, &str); 6] = [
    (
        "apply.lua writes positions before counters and says so nowhere, as at e77edd1",
        "local moved = counts and { 'incomplete', '1' } or {}",
        "local moved = {}",
    ),
    (
        "apply.lua removes the mark too early",
        "call('HSET', positions, moved)",
        "call('HSET', positions, moved) redis.call('HDEL', positions, 'incomplete')",
    ),
    ("install.lua deletes first, as at e77edd1", "redis.call('HSET', positions, 'incomplete', '1')", ""),
    (
        "install.lua writes the generation first",
        "local function write(key, words)",
        "redis.call('HSET', positions, 'generation', ARGV[2]) local function write(key, words)",
    ),
    ("mark_suspect.lua ignores that the server is full", "redis.call('HDEL', positions, 'generation')", ""),
    ("apply.lua does not notice an incomplete cache", "if state[2] then", "if false then"),
];

#[tokio::test]
async fn every_planted_bug_is_caught() {
    for (name, from, to) in PLANTED {
        let mut explorer = Explorer::start().await;
        explorer.server.plant(from, to);
        let mut caught = None;
        let states = explorer.initial_states(Rebuild).await;
        'states: for state in states {
            for operation in [Count, CountAll, Rebuild, MarkSuspect] {
                if let Err(wrong) = explorer.cut(&state, operation).await {
                    caught = Some(wrong);
                    break 'states;
                }
            }
        }
        assert!(explorer.server.is_planted(), "{name}: no script contains {from:?}");
        println!("{name}: after {} cases, {:.200}", explorer.cases, caught.expect(name));
    }
}
