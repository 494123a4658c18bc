//! The cache in Redis, or whatever speaks its protocol. One script changes counters and positions together.

mod layout;
mod link;
mod script;
mod statuses;

pub use statuses::RedisStatuses;

use std::{collections::BTreeSet, fmt, ops::Range, time::Duration};

use async_trait::async_trait;
use redis::Cmd;

use self::{
    layout::{COUNTERS, Fields, GENERATION, LAST_AUDIT, POSITIONS, SUSPECT, TOTAL, WATERMARK},
    link::Link,
    script::Scripts,
};
use ping_core::{Generation, Millis, Minute, Positions, Token, WriterId};
use ping_ports::{Applied, CacheCounters, CacheError, CacheSnapshot, CounterCache, Flush, Reading};

/// A range of more minutes than this is summed over the whole hash.
const FEW_MINUTES: i64 = 180;
/// Fields in one command.
const CHUNK: usize = 1_000;

/// Where the cache is.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://host:port`, or `rediss://…` for TLS.
    pub url: String,
    /// The password; wins over one in the URL.
    pub password: Option<String>,
    /// Longest time to wait for an answer.
    pub response_timeout: Duration,
}

impl RedisSettings {
    /// Without a password, and with the usual timeout.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), password: None, response_timeout: Duration::from_secs(2) }
    }
}

/// CacheCounters and positions in Redis, Dragonfly or Valkey.
pub struct RedisCache {
    link: Link,
    scripts: Scripts,
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RedisCache").finish_non_exhaustive()
    }
}

impl RedisCache {
    /// Does not connect yet: the first question does, and every first one after an error.
    ///
    /// # Errors
    /// When the URL is not one.
    pub fn new(settings: &RedisSettings) -> Result<Self, CacheError> {
        let link = Link::new(settings).map_err(|error| CacheError(Box::new(error)))?;
        Ok(Self { link, scripts: Scripts::new() })
    }
}

impl RedisCache {
    /// Asks for each minute by name.
    async fn read_each(&self, minutes: impl Iterator<Item = Minute>) -> Result<Option<Reading>, CacheError> {
        let mut counts = redis::cmd("HMGET");
        counts.arg(COUNTERS).arg(TOTAL);
        for minute in minutes {
            counts.arg(layout::minute(minute));
        }
        let question = [Cmd::hexists(POSITIONS, GENERATION), Cmd::hgetall(WATERMARK), counts];
        let (filled, watermark, counts): (bool, Fields, Vec<Option<i64>>) = self.link.transaction(&question).await?;
        let mut counts = counts.into_iter();
        let total = counts.next().flatten().filter(|_| filled);
        Ok(total.map(|total| reading(&watermark, total, counts.flatten().sum())))
    }

    /// Looks through all minutes.
    async fn read_all(&self, minutes: Range<Minute>) -> Result<Option<Reading>, CacheError> {
        let question = [Cmd::hexists(POSITIONS, GENERATION), Cmd::hgetall(WATERMARK), Cmd::hgetall(COUNTERS)];
        let (filled, watermark, counters): (bool, Fields, Fields) = self.link.transaction(&question).await?;
        let within = layout::minutes(&counters).range(minutes).map(|(_, count)| count).sum();
        let total = layout::total(&counters).filter(|_| filled);
        Ok(total.map(|total| reading(&watermark, total, within)))
    }
}

fn reading(watermark: &Fields, total: i64, minutes_total: i64) -> Reading {
    let suspect = layout::value(watermark, SUSPECT).is_some();
    let last_audit = layout::value(watermark, LAST_AUDIT).and_then(|at| at.parse().ok());
    Reading { total, minutes_total, as_of: layout::as_of(watermark), suspect, last_audit }
}

#[async_trait]
impl CounterCache for RedisCache {
    async fn positions(&self) -> Result<Option<Positions>, CacheError> {
        let question = [Cmd::hexists(COUNTERS, TOTAL), Cmd::hgetall(POSITIONS)];
        let (counting, fields): (bool, Fields) = self.link.transaction(&question).await?;
        Ok(if counting { layout::positions(&fields) } else { None })
    }

    async fn apply(&self, flush: &Flush) -> Result<Applied, CacheError> {
        let arguments = |command: &mut Cmd| script::apply(command, flush);
        let refusal: Option<String> = self.link.script(&self.scripts.apply, &arguments).await?;
        Ok(refusal.map_or(Applied::Done, Applied::Stale))
    }

    async fn install(&self, seen: Option<&Generation>, image: &CacheSnapshot) -> Result<bool, CacheError> {
        let contents = layout::contents(image);
        let arguments = |command: &mut Cmd| script::install(command, seen, &contents);
        self.link.script(&self.scripts.install, &arguments).await
    }

    async fn read(&self, minutes: Option<(Minute, Minute)>) -> Result<Option<Reading>, CacheError> {
        let (from, to) = minutes.unwrap_or((Minute(0), Minute(0)));
        if to.0.saturating_sub(from.0) <= FEW_MINUTES {
            self.read_each((from.0..to.0).map(Minute)).await
        } else {
            self.read_all(from..to).await
        }
    }

    async fn has_counted(&self, token: Token) -> Result<bool, CacheError> {
        let mut question = redis::cmd("HMGET");
        question.arg(POSITIONS).arg(layout::base(token.writer)).arg(layout::mark(token.writer, token.partition));
        let marks: Vec<Option<i64>> = self.link.command(&question).await?;
        Ok(marks.into_iter().flatten().any(|mark| mark >= token.seq))
    }

    async fn counters(&self) -> Result<Option<CacheCounters>, CacheError> {
        let question = [Cmd::hgetall(WATERMARK), Cmd::hgetall(COUNTERS), Cmd::hgetall(POSITIONS)];
        let (watermark, counters, positions): (Fields, Fields, Fields) = self.link.transaction(&question).await?;
        let total = layout::total(&counters);
        let Some((positions, total)) = layout::positions(&positions).zip(total) else { return Ok(None) };
        Ok(Some(CacheCounters {
            generation: positions.generation,
            total,
            minutes: layout::minutes(&counters),
            as_of: layout::as_of(&watermark),
            marks: positions.marks,
        }))
    }

    async fn mark_suspect(&self, generation: &Generation) -> Result<(), CacheError> {
        let arguments = |command: &mut Cmd| _ = command.arg(generation);
        self.link.script(&self.scripts.mark_suspect, &arguments).await
    }

    async fn audited(&self, generation: &Generation, at: Millis) -> Result<(), CacheError> {
        let arguments = |command: &mut Cmd| _ = command.arg(generation).arg(at);
        self.link.script(&self.scripts.audited, &arguments).await
    }

    async fn forget_writers(&self, writers: &[WriterId]) -> Result<(), CacheError> {
        let mut question = redis::cmd("HKEYS");
        let fields: Vec<String> = self.link.command(question.arg(POSITIONS)).await?;
        let writers: BTreeSet<_> = writers.iter().collect();
        let theirs = |field: &&String| layout::mark_of(field).is_some_and(|(writer, _)| writers.contains(&writer));
        let fields: Vec<_> = fields.iter().filter(theirs).collect();
        // Not in one step, and it need not be: these writers never appear again, in whatever filling.
        for fields in fields.chunks(CHUNK) {
            let mut removal = redis::cmd("HDEL");
            self.link.command::<()>(removal.arg(POSITIONS).arg(fields)).await?;
        }
        Ok(())
    }
}
