//! The cache of counters: counts and positions under one lock.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use ping_core::{Generation, Millis, Minute, Positions, Token, Watermarks, WriterId};
use ping_ports::{Applied, CacheCounters, CacheError, CacheSnapshot, CounterCache, Flush, Reading};

#[derive(Clone, Debug)]
struct State {
    positions: Positions,
    total: i64,
    minutes: BTreeMap<Minute, i64>,
    minutes_from: Minute,
    touched: BTreeMap<Minute, Minute>,
    watermarks: Watermarks,
    suspect: bool,
    last_audit: Option<Millis>,
}

/// An in-process cache, empty at every start.
#[derive(Debug, Default)]
pub struct MemoryCache(Mutex<Option<State>>);

impl MemoryCache {
    /// Drops everything.
    pub fn clear(&self) {
        *self.0.lock() = None;
    }

    /// Copies everything, and returns a function that restores the copy: what a snapshot on disk is to a real cache.
    pub fn save(&self) -> impl FnOnce(&Self) + Send + use<> {
        let saved = self.0.lock().clone();
        move |cache| *cache.0.lock() = saved
    }
}

#[async_trait]
impl CounterCache for MemoryCache {
    async fn positions(&self) -> Result<Option<Positions>, CacheError> {
        Ok(self.0.lock().as_ref().map(|state| state.positions.clone()))
    }

    async fn apply(&self, flush: &Flush) -> Result<Applied, CacheError> {
        let mut guard = self.0.lock();
        let Some(state) = guard.as_mut() else { return Ok(Applied::Stale("the cache is empty".into())) };
        if let Some(why) = flush.advance.refusal(Some(&state.positions)) {
            return Ok(Applied::Stale(why));
        }
        flush.advance.apply(&mut state.positions);
        state.total += flush.total;
        for (minute, count) in &flush.minutes {
            *state.minutes.entry(*minute).or_insert(0) += count;
            state.touched.insert(*minute, flush.now);
        }
        let (now, window) = (flush.now, flush.window);
        state.touched.retain(|minute, touched| *touched > now.back(window) || *minute > now.back(window));
        state.minutes.retain(|minute, _| state.touched.contains_key(minute));
        state.minutes_from = state.minutes_from.max(Minute(now.back(window).0 + 1));
        if let Some(as_of) = flush.advance.as_of {
            state.watermarks.advance(as_of, flush.advance.from.keys(), flush.advance.partitions);
        }
        Ok(Applied::Done)
    }

    async fn install(&self, seen: Option<&Generation>, snapshot: &CacheSnapshot) -> Result<bool, CacheError> {
        let mut guard = self.0.lock();
        if guard.as_ref().map(|state| &state.positions.generation) != seen {
            return Ok(false);
        }
        *guard = Some(State {
            positions: snapshot.positions.clone(),
            total: snapshot.total,
            minutes: snapshot.minutes.clone(),
            minutes_from: snapshot.minutes_from,
            touched: snapshot.minutes.keys().map(|minute| (*minute, snapshot.now)).collect(),
            watermarks: Watermarks(
                snapshot.positions.offsets.keys().map(|partition| (*partition, snapshot.as_of)).collect(),
            ),
            suspect: false,
            last_audit: None,
        });
        Ok(true)
    }

    async fn read(&self, minutes: Option<(Minute, Minute)>) -> Result<Option<Reading>, CacheError> {
        let guard = self.0.lock();
        let sum = |state: &State, (from, to)| state.minutes.range(from..to).map(|(_, count)| count).sum();
        Ok(guard.as_ref().map(|state| Reading {
            generation: state.positions.generation.clone(),
            total: state.total,
            minutes_total: minutes.map_or(0, |range| sum(state, range)),
            minutes_from: Some(state.minutes_from),
            as_of: state.watermarks.lowest(),
            suspect: state.suspect,
            last_audit: state.last_audit,
        }))
    }

    async fn have_counted(&self, tokens: &[Token]) -> Result<Vec<bool>, CacheError> {
        let guard = self.0.lock();
        let counted = |token: &Token| {
            guard.as_ref().is_some_and(|state| state.positions.marks.get(token.writer, token.partition) >= token.seq)
        };
        Ok(tokens.iter().map(counted).collect())
    }

    async fn counters(&self) -> Result<Option<CacheCounters>, CacheError> {
        Ok(self.0.lock().as_ref().map(|state| CacheCounters {
            generation: state.positions.generation.clone(),
            total: state.total,
            minutes: state.minutes.clone(),
            minutes_from: Some(state.minutes_from),
            as_of: state.watermarks.lowest(),
            marks: state.positions.marks.clone(),
        }))
    }

    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CacheError> {
        if let Some(state) = self.0.lock().as_mut().filter(|state| &state.positions.generation == generation) {
            state.suspect = true;
        }
        Ok(())
    }

    async fn audited(&self, generation: &Generation, at: Millis) -> Result<(), CacheError> {
        if let Some(state) = self.0.lock().as_mut().filter(|state| &state.positions.generation == generation) {
            state.last_audit = Some(at);
        }
        Ok(())
    }

    async fn forget_writers(&self, writers: &[WriterId]) -> Result<(), CacheError> {
        if let Some(state) = self.0.lock().as_mut() {
            for writer in writers {
                state.positions.marks.0.remove(writer);
            }
        }
        Ok(())
    }
}
