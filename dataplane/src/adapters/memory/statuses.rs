//! Evidence in process.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    domain::{Evidence, Minute, Promises},
    ports::{BELIEVED, CacheError, Epoch, Held, Promise, StatusCache, Testimony},
};

/// Sources held at most.
const BOUND: usize = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    evidence: Evidence,
    last: bool,
    epoch: Epoch,
    at: Minute,
}

#[derive(Debug, Default)]
struct State {
    epoch: Epoch,
    promises: Promises,
    entries: HashMap<Box<str>, Entry>,
}

/// Evidence in a map: empty at every start.
#[derive(Debug, Default)]
pub struct MemoryStatuses(Mutex<State>);

#[async_trait]
impl StatusCache for MemoryStatuses {
    async fn get(&self, source: &str, now: Minute) -> Result<Held, CacheError> {
        let state = self.0.lock();
        let believed = |entry: &&Entry| entry.last || (entry.epoch == state.epoch && entry.at > now.back(BELIEVED));
        let evidence = state.entries.get(source).filter(believed).map(|entry| entry.evidence);
        Ok(Held { epoch: state.epoch, evidence, as_of: state.promises.lowest() })
    }

    async fn raise(&self, epoch: Option<Epoch>, now: Minute, all: &[Testimony]) -> Result<(), CacheError> {
        let mut state = self.0.lock();
        let epoch = epoch.unwrap_or(state.epoch);
        for Testimony { source, evidence, last } in all {
            if state.entries.len() >= BOUND && !state.entries.contains_key(source) {
                let victim = state.entries.keys().next().cloned();
                victim.and_then(|victim| state.entries.remove(&victim));
            }
            let new = Entry { evidence: *evidence, last: *last, epoch, at: now };
            let entry = state.entries.entry(source.clone()).or_insert(new);
            entry.evidence.not = entry.evidence.not.max(evidence.not);
            entry.evidence.yes = entry.evidence.yes.max(evidence.yes);
            entry.last |= last;
            entry.epoch = entry.epoch.max(epoch);
            entry.at = now;
        }
        Ok(())
    }

    async fn promise(&self, promise: &Promise) -> Result<(), CacheError> {
        self.0.lock().promises.raise(promise.as_of, &promise.on, promise.partitions);
        Ok(())
    }

    async fn begin(&self) -> Result<(), CacheError> {
        self.0.lock().epoch += 1;
        Ok(())
    }
}
