//! Budgets of new names per day. Names that a server has seen are remembered, so that they need no look-up; the store decides about all
//! others.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, OnceLock},
    time::Duration,
};

use ping_ports::{Name, QuotaStore, chain};
use quick_cache::sync::Cache;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};

use crate::{Limit, NewNames, QuotaMetrics, QuotaRefusal};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Names that a server remembers. Others are looked up in the store.
const REMEMBERED: usize = 131_072;
/// Names per statement.
const CHUNK: usize = 1_000;
/// Names of calls that wait for the store. Other calls wait in their own tasks.
const MAX_WAITING_NAMES: u32 = 16_384;
/// Budgets of which a server remembers that they are used up.
const MAX_USED_UP: usize = 4_096;

/// Names that need no look-up, by hash. The key of the hash is random, so that no one can choose names that collide.
#[derive(Default)]
pub(crate) struct KnownNames {
    /// Created when the first name is remembered: most servers have no such quota.
    cache: OnceLock<Cache<u64, ()>>,
    hasher: RandomState,
}

impl KnownNames {
    fn key(&self, budget: &str, source: &str, kind: Option<&str>) -> u64 {
        self.hasher.hash_one((budget, source, kind))
    }

    pub(crate) fn contains(&self, budget: &str, source: &str, kind: Option<&str>) -> bool {
        self.cache.get().is_some_and(|cache| cache.get(&self.key(budget, source, kind)).is_some())
    }

    fn insert(&self, budget: &str, name: &Name) {
        let (source, kind) = name.parts();
        let key = self.key(budget, source, kind);
        self.cache.get_or_init(|| Cache::new(REMEMBERED)).insert(key, ());
    }
}

/// What a call waits for.
type Answer = Result<(), QuotaRefusal>;

/// A call with names that this server does not remember.
struct Unknown {
    names: Arc<[NewNames]>,
    reply: oneshot::Sender<Answer>,
    /// Bounds the memory of calls that wait, also of those whose callers have left.
    _space: OwnedSemaphorePermit,
}

/// Where calls with unknown names wait.
#[derive(Clone)]
pub(crate) struct NamesQueue {
    queue: mpsc::UnboundedSender<Unknown>,
    space: Arc<Semaphore>,
}

impl NamesQueue {
    /// Adds a call once there is space for its names. Returns what will hold the answer, or none if the registrar has ended.
    pub(crate) async fn send(&self, names: &Arc<[NewNames]>) -> Option<oneshot::Receiver<Answer>> {
        let count: usize = names.iter().map(|new| new.names.len()).sum();
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(MAX_WAITING_NAMES);
        let space = Arc::clone(&self.space).acquire_many_owned(count).await.ok()?;
        let (reply, answer) = oneshot::channel();
        self.queue.send(Unknown { names: Arc::clone(names), reply, _space: space }).ok()?;
        Some(answer)
    }
}

/// The task that asks the store about names: for all calls that wait in one step, and about what is new one call at a time.
pub(crate) struct Registrar {
    known: Arc<KnownNames>,
    store: Arc<dyn QuotaStore>,
    metrics: Arc<QuotaMetrics>,
    queue: mpsc::UnboundedReceiver<Unknown>,
    /// Names that a budget has admitted today, and until when that counts.
    used: HashMap<Arc<str>, (u64, Instant)>,
}

impl Registrar {
    pub(crate) fn new(
        known: Arc<KnownNames>,
        store: Arc<dyn QuotaStore>,
        metrics: Arc<QuotaMetrics>,
    ) -> (NamesQueue, Self) {
        let (sender, queue) = mpsc::unbounded_channel();
        let space = Arc::new(Semaphore::new(MAX_WAITING_NAMES as usize));
        (NamesQueue { queue: sender, space }, Self { known, store, metrics, queue, used: HashMap::new() })
    }

    /// Runs until every sender is dropped.
    pub(crate) async fn run(mut self) {
        while let Some(call) = self.queue.recv().await {
            let mut calls = vec![call];
            while let Ok(call) = self.queue.try_recv() {
                calls.push(call);
            }
            // No budget is used by callers that have left.
            calls.retain(|call| !call.reply.is_closed());
            let looked_up = self.look_up(&calls).await;
            for Unknown { names, reply, _space } in calls {
                let answer = match &looked_up {
                    Ok(()) if reply.is_closed() => continue,
                    Ok(()) => self.admit(&names).await,
                    Err(refusal) => Err(refusal.clone()),
                };
                // A caller that has left needs no answer.
                let _ = reply.send(answer);
            }
        }
    }

    /// Remembers which of the names the store has.
    async fn look_up(&self, calls: &[Unknown]) -> Answer {
        let names = calls.iter().flat_map(|call| &*call.names);
        let names: HashSet<_> =
            names.flat_map(|new| new.names.iter().map(|name| (Arc::clone(&new.budget), name.clone()))).collect();
        let names: Vec<_> = names.into_iter().collect();
        for chunk in names.chunks(CHUNK) {
            self.metrics.exchanges.inc();
            let known = self.store.known_names(chunk).await.map_err(|error| {
                self.metrics.errors.inc();
                QuotaRefusal::Unavailable(chain(&error))
            })?;
            for ((budget, name), _) in chunk.iter().zip(known).filter(|(_, known)| *known) {
                self.known.insert(budget, name);
            }
        }
        Ok(())
    }

    /// Admits what is new, on the account of each budget.
    async fn admit(&mut self, names: &[NewNames]) -> Answer {
        for new in names {
            let is_new = |name: &&Name| {
                let (source, kind) = name.parts();
                !self.known.contains(&new.budget, source, kind)
            };
            let names: Vec<Name> = new.names.iter().filter(is_new).cloned().collect();
            if !names.is_empty() {
                self.admit_new(new, &names).await?;
            }
        }
        Ok(())
    }

    async fn admit_new(&mut self, of: &NewNames, names: &[Name]) -> Answer {
        let NewNames { quota, budget, limit, per_day, .. } = of;
        let (limit, per_day, amount) = (*limit, *per_day, names.len() as u64);
        let exceeded = |retry_in| match limit {
            Limit::KindNames => Err(QuotaRefusal::TooManyKindNames { most: per_day, retry_in }),
            _ => Err(QuotaRefusal::Exceeded { quota: Arc::clone(quota), limit, allowed: per_day, retry_in }),
        };
        match limit {
            Limit::AllSources => return Err(QuotaRefusal::TooManySources { most: per_day }),
            // No day has room for them.
            Limit::KindNames if amount > per_day => return exceeded(DAY),
            _ if amount > per_day => {
                return Err(QuotaRefusal::TooLarge { quota: Arc::clone(quota), limit, amount, most: per_day });
            }
            _ => {}
        }
        if let Some(left) = self.used_up(budget, amount, per_day) {
            return exceeded(left);
        }
        self.metrics.exchanges.inc();
        let answer = self.store.admit_names(budget, per_day, names).await.map_err(|error| {
            self.metrics.errors.inc();
            QuotaRefusal::Unavailable(chain(&error))
        })?;
        if self.used.len() >= MAX_USED_UP {
            self.used.clear();
        }
        self.used.insert(Arc::clone(budget), (answer.used, Instant::now() + answer.day_ends_in));
        if !answer.admitted {
            return exceeded(answer.day_ends_in);
        }
        for name in names {
            self.known.insert(budget, name);
        }
        Ok(())
    }

    /// How long the budget will have no room for `fresh` more names, as far as this server knows. What was used stays used, so the store
    /// need not be asked.
    fn used_up(&self, budget: &Arc<str>, fresh: u64, per_day: u64) -> Option<Duration> {
        let (used, until) = self.used.get(budget)?;
        let left = until.saturating_duration_since(Instant::now());
        (used.saturating_add(fresh) > per_day && !left.is_zero()).then_some(left)
    }
}
