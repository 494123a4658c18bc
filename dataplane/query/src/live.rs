//! What dashboards show, as it changes: the count, the events of recent minutes, and the top sources.
//!
//! Each of the three is polled while someone watches it, once for all watchers.

mod minutes;
mod shared_poll;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ping_core::Minute;
use ping_ports::{StoreError, chain};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{AsOf, CountQuery, CountResponse, QueryError, ServedBy, SourceQuery};
pub use minutes::LIVE_MINUTES;
use minutes::{CachedMinutes, merge};
use shared_poll::SharedPoll;

/// Sources in the ranking.
pub const LIVE_SOURCES: usize = 10;
/// Pause between two reads of the cache's total.
const COUNT_INTERVAL: Duration = Duration::from_millis(100);
/// The same while the store answers instead.
const STORE_COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two reads of the cache's minutes.
const MINUTES_INTERVAL: Duration = Duration::from_secs(1);
/// How old may be what the store said of the minutes that the cache does not have.
const STORE_MINUTES_AGE: Duration = Duration::from_secs(60);
/// The same while the cache has none, or after the store did not answer.
const STORE_MINUTES_AGE_ALONE: Duration = Duration::from_secs(10);
/// Pause between two reads of the ranking.
const RANKING_INTERVAL: Duration = Duration::from_secs(30);
/// The pause is at least this many times as long as the read, which reads every source.
const RANKING_PAUSE_FACTOR: u32 = 20;

/// Whether the cache can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// It answers.
    Available,
    /// It does not respond.
    Unavailable,
    /// It is empty or suspect, until the next rebuild.
    Rebuilding,
}

/// The count, and the state of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveCount {
    /// From the cache, else from the store. While neither answers, the last one.
    pub count: CountResponse,
    /// Whether the cache can answer.
    pub cache: CacheState,
}

/// Events per minute; minutes without events may be missing.
pub type Minutes = Arc<BTreeMap<Minute, i64>>;
/// The sources with the most events of all time.
pub type Ranking = Arc<AsOf<Vec<(String, i64)>>>;
/// A count, or why there has been none.
type Counted = Result<LiveCount, Arc<StoreError>>;

/// Polls for watchers. Cheap to clone; clones share the polls.
#[derive(Clone)]
pub struct LiveQuery(Arc<Polls>);

struct Polls {
    counts: CountQuery,
    sources: SourceQuery,
    count: Arc<SharedPoll<Counted>>,
    minutes: Arc<SharedPoll<Minutes>>,
    ranking: Arc<SharedPoll<Ranking>>,
}

impl LiveQuery {
    /// Watches what these queries answer.
    #[must_use]
    pub fn new(counts: CountQuery, sources: SourceQuery) -> Self {
        let (count, minutes, ranking) = Default::default();
        Self(Arc::new(Polls { counts, sources, count, minutes, ranking }))
    }

    /// Watches the count, and if wanted the last [`LIVE_MINUTES`] minutes and the first [`LIVE_SOURCES`] sources.
    ///
    /// # Errors
    /// When there are too many watchers.
    pub fn watch(&self, wants_minutes: bool, wants_ranking: bool) -> Result<Watcher, QueryError> {
        let polls = &self.0;
        let count = polls.count.watch(|| Arc::clone(polls).poll_count())?;
        let minutes = wants_minutes.then(|| polls.minutes.watch(|| Arc::clone(polls).poll_minutes())).transpose()?;
        let ranking = wants_ranking.then(|| polls.ranking.watch(|| Arc::clone(polls).poll_ranking())).transpose()?;
        Ok(Watcher { count, minutes, ranking })
    }
}

impl Polls {
    async fn poll_count(self: Arc<Self>) {
        let mut last = None;
        loop {
            let (cache, count) = self.counts.total().await;
            let pause = match count {
                Ok(CountResponse { served_by: ServedBy::Cache, .. }) => COUNT_INTERVAL,
                _ => STORE_COUNT_INTERVAL,
            };
            let counted = match (count, last) {
                (Ok(count), _) | (Err(_), Some(count)) => Ok(LiveCount { count, cache }),
                (Err(error), None) => Err(Arc::new(error)),
            };
            last = counted.as_ref().ok().map(|live| live.count);
            self.count.publish(counted);
            sleep(pause).await;
        }
    }

    async fn poll_minutes(self: Arc<Self>) {
        let mut stored = BTreeMap::new();
        let mut read: Option<(Instant, Duration)> = None;
        loop {
            let now = Minute::of(self.counts.clock.now());
            let cached = self.cached_minutes().await;
            let alone = if cached.is_some() { STORE_MINUTES_AGE } else { STORE_MINUTES_AGE_ALONE };
            if read.is_none_or(|(at, max_age)| at.elapsed() >= max_age.min(alone)) {
                let max_age = match self.sources.minutes(now.back(LIVE_MINUTES as i64 - 1), Minute(now.0 + 1)).await {
                    Ok(minutes) => {
                        stored = minutes;
                        STORE_MINUTES_AGE
                    }
                    Err(error) => {
                        tracing::debug!(error = chain(&error), "cannot read the minutes of dashboards");
                        STORE_MINUTES_AGE_ALONE
                    }
                };
                read = Some((Instant::now(), max_age));
            }
            let minutes = merge(&stored, cached.as_ref(), now, self.counts.window);
            // Watchers take another map for a change.
            if self.minutes.latest().is_none_or(|latest| *latest != minutes) {
                self.minutes.publish(Arc::new(minutes));
            }
            sleep(MINUTES_INTERVAL).await;
        }
    }

    /// The minutes that the cache has; none if it cannot answer.
    async fn cached_minutes(&self) -> Option<CachedMinutes> {
        let counted = self.count.latest()?.ok()?;
        if counted.cache != CacheState::Available {
            return None;
        }
        let counters = self.counts.cache.counters().await.ok()??;
        Some(CachedMinutes { from: counters.minutes_from?, counts: counters.minutes })
    }

    async fn poll_ranking(self: Arc<Self>) {
        loop {
            let started = Instant::now();
            match self.sources.top(None, LIVE_SOURCES as i64).await {
                Ok(ranking) => self.ranking.publish(Arc::new(ranking)),
                Err(error) => tracing::debug!(error = chain(&error), "cannot read the top sources of dashboards"),
            }
            sleep(RANKING_INTERVAL.max(started.elapsed() * RANKING_PAUSE_FACTOR)).await;
        }
    }
}

/// What one watcher sees.
pub struct Watcher {
    count: watch::Receiver<Option<Counted>>,
    minutes: Option<watch::Receiver<Option<Minutes>>>,
    ranking: Option<watch::Receiver<Option<Ranking>>>,
}

impl Watcher {
    /// Waits for the next poll of the count: at most ten per second.
    pub async fn changed(&mut self) {
        if self.count.changed().await.is_err() {
            // The sender lives as long as `LiveQuery`; without it, nothing changes any more.
            std::future::pending().await
        }
    }

    /// The latest count, or why there has been none; `None` before the first poll.
    #[must_use]
    pub fn count(&mut self) -> Option<Result<LiveCount, Arc<StoreError>>> {
        self.count.borrow_and_update().clone()
    }

    /// The latest minutes; `None` before the first poll, and if they are not watched.
    #[must_use]
    pub fn minutes(&self) -> Option<Minutes> {
        self.minutes.as_ref()?.borrow().clone()
    }

    /// The latest ranking; `None` before the first poll, and if it is not watched.
    #[must_use]
    pub fn ranking(&self) -> Option<Ranking> {
        self.ranking.as_ref()?.borrow().clone()
    }
}
