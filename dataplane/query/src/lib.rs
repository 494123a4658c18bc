//! The read path: the cache first, the store when the cache is away, in mark_suspect, or not asked.

mod sources;
mod status;

use std::{sync::Arc, time::Duration};

pub use sources::{Dated, Point, SourceError, SourceQuery, Step};
pub use status::{StatusAnswer, StatusQuery};

use tokio::time::{Instant, sleep};

use ping_core::{Millis, Minute, TimeRange, Token};
use ping_ports::{Clock, CounterCache, Reading, Recount, StoreError, TotalsStore};

/// How often a reader that waits for its own write looks again.
const POLL: Duration = Duration::from_millis(5);

/// What is to be counted, and how sure it must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question {
    /// Only events in this range.
    pub range: Option<TimeRange>,
    /// Straight from the store.
    pub strong: bool,
    /// Not before this event is counted.
    pub after: Option<Token>,
}

/// Which store answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The cache.
    Cache,
    /// The store of record.
    Store,
}

/// A count, and how good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How many events.
    pub count: i64,
    /// Everything acknowledged before this time is in.
    pub as_of: Millis,
    /// How long ago that was.
    pub lag: Millis,
    /// Nothing is in it twice, and nothing from before `as_of` is missing.
    pub exact: bool,
    /// Who says so.
    pub by: AnsweredBy,
    /// When an audit last found the cache equal to the store, if the cache answered and one has looked.
    pub last_audit: Option<Millis>,
}

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Neither cache nor store could answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event of the token was not counted in time.
    #[error("the ping of this token is not counted yet; ask again, or ask for a strong read")]
    NotYet,
}

/// Compares everything with everything.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Rows against totals.
    pub recount: Recount,
    /// What the cache says; none when it did not answer.
    pub cache_total: Option<i64>,
    /// Minutes compared.
    pub minutes: usize,
    /// What differs, in words.
    pub differences: Vec<String>,
}

/// Answers questions.
#[derive(Clone)]
pub struct CountQuery {
    cache: Arc<dyn CounterCache>,
    totals: Arc<dyn TotalsStore>,
    clock: Arc<dyn Clock>,
    window: i64,
}

impl CountQuery {
    /// `window`: minutes that the cache holds completely.
    #[must_use]
    pub fn new(cache: Arc<dyn CounterCache>, totals: Arc<dyn TotalsStore>, clock: Arc<dyn Clock>, window: i64) -> Self {
        Self { cache, totals, clock, window }
    }

    /// Counts. Waits until `deadline` for the token, if one is given.
    ///
    /// # Errors
    /// When nobody can answer, or the token's event is not counted in time.
    pub async fn count(&self, question: Question, deadline: Instant) -> Result<Answer, QueryError> {
        if !question.strong {
            if let Some(token) = question.after {
                self.wait_for(token, deadline).await?;
            }
            if let Some(answer) = self.ask_cache(question.range).await {
                return Ok(answer);
            }
        }
        let as_of = self.clock.now();
        let count = self.totals.count(question.range).await?;
        Ok(Answer { count, as_of, lag: 0, exact: true, by: AnsweredBy::Store, last_audit: None })
    }

    /// The cache's answer, if it has one to be trusted.
    async fn ask_cache(&self, range: Option<TimeRange>) -> Option<Answer> {
        let now = self.clock.now();
        let minutes = match range {
            None => None,
            Some(range) => Some(self.minutes_in_cache(range, now)?),
        };
        let reading = self.cache.read(minutes).await.ok().flatten()?;
        let Reading { total, minutes_total, as_of, suspect, last_audit } = reading;
        if suspect {
            return None;
        }
        let count = if minutes.is_some() { minutes_total } else { total };
        Some(Answer { count, as_of, lag: (now - as_of).max(0), exact: true, by: AnsweredBy::Cache, last_audit })
    }

    /// The minutes of `range`, when the cache has every one of them completely.
    fn minutes_in_cache(&self, range: TimeRange, now: Millis) -> Option<(Minute, Minute)> {
        let (start, end) = range.whole_minutes()?;
        (start > Minute::of(now).back(self.window - 1)).then_some((start, end))
    }

    async fn wait_for(&self, token: Token, deadline: Instant) -> Result<(), QueryError> {
        loop {
            if self.cache.has_counted(token).await.unwrap_or(false) {
                return Ok(());
            }
            if Instant::now() + POLL > deadline {
                return Err(QueryError::NotYet);
            }
            sleep(POLL).await;
        }
    }

    /// Recounts the rows and compares them with totals and cache. Reads every row. While events flow, the cache is compared
    /// within what was counted before and after.
    ///
    /// # Errors
    /// When the store can't answer.
    pub async fn verify(&self) -> Result<Verification, StoreError> {
        let recount = self.totals.recount().await?;
        let mut differences = Vec::new();
        let mut check = |what: &str, have: i64| {
            if have != recount.rows {
                differences.push(format!("{what} is {have}, the rows are {}", recount.rows));
            }
        };
        check("the writers' total", recount.total);
        check("the sum of the minutes", recount.minutes_total);
        check("the sum of the days", recount.days_total);
        differences.extend(
            recount
                .differing_minutes
                .iter()
                .map(|minute| format!("minute {}: the count differs from the rows", minute.0)),
        );
        let (cache_total, minutes) = self.verify_cache(&mut differences).await?;
        Ok(Verification { recount, cache_total, minutes, differences })
    }

    async fn verify_cache(&self, differences: &mut Vec<String>) -> Result<(Option<i64>, usize), StoreError> {
        let start = Minute::of(self.clock.now()).back(self.window - 2);
        let before = self.totals.snapshot(start, Duration::ZERO).await?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let counters = loop {
            match self.cache.counters().await {
                Ok(Some(counters)) if counters.as_of >= before.at => break counters,
                Ok(Some(_)) if Instant::now() < deadline => sleep(POLL * 4).await,
                Ok(Some(counters)) => {
                    differences.push(format!("the cache is {} ms behind", self.clock.now() - counters.as_of));
                    break counters;
                }
                Ok(None) => {
                    differences.push("the cache is empty".into());
                    return Ok((None, 0));
                }
                Err(error) => {
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
