//! The read path: counts, statistics per source, and statuses.
//!
//! Queries read the cache first. They read the store if the cache is unavailable or suspect, or if the caller asks for a strong read.
//! Messages and protocols belong to `ping-rpc`.

mod live;
mod sources;
mod status;
mod storage;
mod store_check;
mod view_state;
mod waiters;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use live::{CacheState, LIVE_MINUTES, LIVE_SOURCES, LiveCount, LiveQuery, Minutes, Ranking, Watcher};
pub use sources::{AsOf, Point, SourceError, SourceQuery, Step};
pub use status::{RevocationQuery, SourceStatus, StatusQuery};
pub use storage::{StorageUsage, StorageWatch};
pub use store_check::StoreCheck;

use prometheus_client::registry::Registry;
use storage::LastStorageUsage;
use store_check::RolledBack;
use tokio::time::{Instant, sleep};
use view_state::ViewState;
use waiters::Waiters;

use ping_core::{Millis, Minute, TimeRange, Token};
use ping_ports::{
    Clock, Counted, CounterCache, Outbox, RangeCountError, Reading, Recount, StorageReader, StoreError, TotalsStore,
    ViewAudit, ViewAuditState,
};

/// Pause between two checks whether the cache has caught up with the store, in [`CountQuery::verify`].
const CATCH_UP_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for the cache to answer and to catch up with the store, in [`CountQuery::verify`].
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Which events to count, and with which consistency.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountRequest {
    /// Count only events in this range; none counts all.
    pub range: Option<TimeRange>,
    /// Read from the store.
    pub strong: bool,
    /// Wait until this event is counted.
    pub after: Option<Token>,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// The cache.
    Cache,
    /// The store of record.
    Store,
}

/// A count and its freshness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountResponse {
    /// Number of events.
    pub count: i64,
    /// Watermark: every event acknowledged before this time is included.
    pub as_of: Millis,
    /// Now minus `as_of`, in milliseconds; never negative.
    pub lag: Millis,
    /// No event is counted twice, and none acknowledged before `as_of` is missing.
    pub exact: bool,
    /// Where the count comes from.
    pub served_by: ServedBy,
    /// When an audit last found the cache equal to the store. None if the store answered, or before the first audit.
    pub last_audit: Option<Millis>,
    /// What the last audit of the views per source found.
    pub views: ViewAuditState,
    /// The space that the store occupied when it was measured last.
    pub storage: Option<StorageUsage>,
}

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Neither the cache nor the store could answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The range needs counts that are no longer kept.
    #[error(transparent)]
    EdgeDropped(RangeCountError),
    /// The event of the token was not counted before the deadline.
    #[error("the event of this token is not counted yet; retry, or use strong=true")]
    NotCountedYet,
    /// Too many callers wait for an event of theirs to be counted.
    #[error("{0} calls with `after` are waiting already; retry later, or use strong=true")]
    TooManyWaiting(usize),
    /// Too many callers watch.
    #[error("{0} callers watch already; retry later, or query PingCount")]
    TooManyWatchers(usize),
}

impl From<RangeCountError> for QueryError {
    fn from(error: RangeCountError) -> Self {
        match error {
            RangeCountError::Store(error) => Self::Store(error),
            dropped @ RangeCountError::EdgeDropped(_) => Self::EdgeDropped(dropped),
        }
    }
}

/// The result of comparing rows, totals, rollups and cache.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Rows, totals and rollups of the store.
    pub recount: Recount,
    /// The cache's total; none if the cache did not answer.
    pub cache_total: Option<i64>,
    /// Number of minutes compared between the cache and the store.
    pub minutes_compared: usize,
    /// A description of each difference; empty if everything agrees.
    pub differences: Vec<String>,
}

/// Reads counts.
#[derive(Clone)]
pub struct CountQuery {
    cache: Arc<dyn CounterCache>,
    totals: Arc<dyn TotalsStore>,
    clock: Arc<dyn Clock>,
    window: i64,
    waiters: Waiters,
    rolled_back: RolledBack,
    views: Option<ViewState>,
    storage: LastStorageUsage,
}

impl CountQuery {
    /// `window`: number of recent minutes for which the cache has complete counts.
    #[must_use]
    pub fn new(cache: Arc<dyn CounterCache>, totals: Arc<dyn TotalsStore>, clock: Arc<dyn Clock>, window: i64) -> Self {
        let waiters = Waiters::new(Arc::clone(&cache));
        Self {
            cache,
            totals,
            clock,
            window,
            waiters,
            rolled_back: RolledBack::default(),
            views: None,
            storage: LastStorageUsage::default(),
        }
    }

    /// Answers also say what the last audit of the views per source found.
    #[must_use]
    pub fn with_views(self, audit: Arc<dyn ViewAudit>) -> Self {
        Self { views: Some(ViewState::new(audit)), ..self }
    }

    fn view_state(&self) -> ViewAuditState {
        self.views.as_ref().map(ViewState::current).unwrap_or_default()
    }

    /// A check that makes these queries read the store, while the cache has counted what the primary store behind `outbox` does not have.
    pub fn store_check(&self, outbox: Arc<dyn Outbox>, registry: &mut Registry) -> StoreCheck {
        StoreCheck::new(Arc::clone(&self.cache), outbox, self.rolled_back.clone(), registry)
    }

    /// A watch that measures `store`. Answers of these queries then say how much space it occupies.
    pub fn storage_watch(&self, store: Arc<dyn StorageReader>, registry: &mut Registry) -> StorageWatch {
        StorageWatch::new(store, Arc::clone(&self.totals), registry).with_last(self.storage.clone())
    }

    /// Whether the cache can answer.
    fn is_usable(&self, reading: &Reading) -> bool {
        !reading.suspect && !self.rolled_back.is(&reading.generation)
    }

    /// Counts events. If the request has a token, waits for its event until `deadline`.
    ///
    /// # Errors
    /// When neither cache nor store answers, the token's event is not counted in time, or the range needs counts that are no longer kept.
    pub async fn count(&self, request: CountRequest, deadline: Instant) -> Result<CountResponse, QueryError> {
        if !request.strong {
            if let Some(token) = request.after {
                self.waiters.wait(token, deadline).await?;
            }
            if let Some(response) = self.read_cache(request.range).await {
                return Ok(response);
            }
        }
        Ok(self.read_store(request.range).await?)
    }

    /// The count of all events from the cache, else from the store, and whether the cache can answer.
    async fn total(&self) -> (CacheState, Result<CountResponse, StoreError>) {
        let (state, reading) = match self.cache.read(None).await {
            Ok(Some(reading)) if self.is_usable(&reading) => (CacheState::Available, Some(reading)),
            Ok(_) => (CacheState::Rebuilding, None),
            Err(_) => (CacheState::Unavailable, None),
        };
        match reading {
            Some(reading) => (state, Ok(self.response_of(reading.total, &reading, self.clock.now()))),
            None => (state, self.read_store(None).await.map_err(StoreError::from)),
        }
    }

    async fn read_store(&self, range: Option<TimeRange>) -> Result<CountResponse, RangeCountError> {
        let Counted { count, as_of } = self.totals.count(range).await?;
        let (served_by, views, storage) = (ServedBy::Store, self.view_state(), self.storage.get());
        Ok(CountResponse { count, as_of, lag: 0, exact: true, served_by, last_audit: None, views, storage })
    }

    /// The count of the cache, if the cache covers `range`, answers, and is not suspect.
    async fn read_cache(&self, range: Option<TimeRange>) -> Option<CountResponse> {
        let now = self.clock.now();
        let minutes = match range {
            None => None,
            Some(range) => Some(self.cached_minutes(range, now)?),
        };
        let reading = self.cache.read(minutes).await.ok().flatten().filter(|reading| self.is_usable(reading))?;
        // The clock of the processor, which decides what the cache keeps, may differ from this one.
        if minutes.is_some_and(|(start, _)| reading.minutes_from.is_none_or(|from| start < from)) {
            return None;
        }
        let count = if minutes.is_some() { reading.minutes_total } else { reading.total };
        Some(self.response_of(count, &reading, now))
    }

    fn response_of(&self, count: i64, reading: &Reading, now: Millis) -> CountResponse {
        let Reading { as_of, last_audit, .. } = *reading;
        let lag = (now - as_of).max(0);
        let (served_by, views, storage) = (ServedBy::Cache, self.view_state(), self.storage.get());
        CountResponse { count, as_of, lag, exact: true, served_by, last_audit, views, storage }
    }

    /// The minutes of `range`, if it consists of whole minutes that are all in the cache window.
    fn cached_minutes(&self, range: TimeRange, now: Millis) -> Option<(Minute, Minute)> {
        let (start, end) = range.whole_minutes()?;
        (start > Minute::of(now).back(self.window - 1)).then_some((start, end))
    }

    /// Recounts every row and compares the result with totals, rollups and cache. Events may arrive meanwhile, so the cache must lie
    /// between the counts taken before and after reading it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn verify(&self) -> Result<Verification, StoreError> {
        let recount = self.totals.recount().await?;
        let mut differences = Vec::new();
        let mut compare = |name: &str, value: i64| {
            if value != recount.events() {
                let dropped = match recount.dropped.count {
                    0 => String::new(),
                    dropped => format!(", and {dropped} were dropped"),
                };
                differences.push(format!("{name} is {value}, but there are {} rows{dropped}", recount.rows));
            }
        };
        compare("the sum of the writers' totals", recount.total);
        compare("the sum of the per-minute counts", recount.minutes_total);
        compare("the sum of the per-day counts", recount.days_total);
        let differing = recount.differing_minutes.iter();
        differences.extend(differing.map(|minute| format!("minute {}: the count differs from the rows", minute.0)));
        let (cache_total, minutes_compared) = self.verify_cache(&mut differences).await?;
        Ok(Verification { recount, cache_total, minutes_compared, differences })
    }

    /// Compares the cache with the store: its total, and the number of minutes compared.
    async fn verify_cache(&self, differences: &mut Vec<String>) -> Result<(Option<i64>, usize), StoreError> {
        let start = Minute::of(self.clock.now()).back(self.window - 2);
        let mut before = self.totals.snapshot(start, Duration::ZERO).await?;
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        let counters = loop {
            match self.cache.counters().await {
                Ok(Some(counters)) if ping_ports::has_counted(&counters, &before) => break counters,
                // Also after an error: a connection that broke while it was idle fails once.
                _ if Instant::now() < deadline => sleep(CATCH_UP_POLL_INTERVAL).await,
                Ok(Some(counters)) => {
                    let behind = self.clock.now() - counters.as_of;
                    differences.push(format!("the cache is {behind} ms behind: what it lacks is late, not lost"));
                    (before.total, before.minutes) = (0, BTreeMap::new());
                    break counters;
                }
                Ok(None) => {
                    differences.push("the cache is empty".into());
                    return Ok((None, 0));
                }
                Err(error) => {
                    tracing::warn!(error = ping_ports::chain(&error), "cannot compare the cache");
                    differences.push(error.to_string());
                    return Ok((None, 0));
                }
            }
        };
        let after = self.totals.snapshot(start, Duration::ZERO).await?;
        if let Some(drift) = ping_ports::compare(&before, &counters, &after, start) {
            differences.extend(drift.differences);
        }
        Ok((Some(counters.total), after.minutes.len()))
    }
}
