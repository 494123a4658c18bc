//! The cache in Redis, Dragonfly or Valkey. One Lua script changes counters and positions together.
//!
//! Keys, scripts and the connection belong here. What is counted, when the cache is rebuilt and how a status is decided do not:
//! that is in ping-projections and ping-query.

mod connector;
mod failure;
mod layout;
mod link;
mod script;
mod settings;
mod statuses;

pub use self::{
    settings::{ClientCertificate, RedisSettings, RedisSettingsError},
    statuses::RedisStatuses,
};

use std::{collections::BTreeSet, fmt, ops::Range, time::Duration};

use async_trait::async_trait;
use redis::Cmd;

use self::{
    layout::{COUNTERS, Fields, GENERATION, INCOMPLETE, LAST_AUDIT, POSITIONS, SUSPECT, TOTAL, WATERMARK},
    link::Link,
    script::Scripts,
};
use ping_core::{Generation, Millis, Minute, Positions, Token, WriterId};
use ping_ports::{Applied, CacheCounters, CacheError, CacheSnapshot, CounterCache, Flush, Reading};

/// Longest range, in minutes, that is read minute by minute. A longer one is summed over the whole hash.
const MAX_MINUTES_BY_FIELD: i64 = 180;
/// How long a refused change is reported. Processors repeat it more often; one without partitions has nothing to repeat.
const REFUSAL_REPORTED: Duration = Duration::from_secs(10);
/// Fields per `HDEL`.
const FIELDS_PER_COMMAND: usize = 1_000;

/// Counters and positions in Redis, Dragonfly or Valkey.
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
    /// Does not connect yet: the first command does, and the first one after an error.
    ///
    /// # Errors
    /// When the URL is not valid, or the settings contradict each other.
    pub fn new(settings: &RedisSettings) -> Result<Self, CacheError> {
        let link = Link::new(settings).map_err(|error| CacheError::Unavailable(Box::new(error)))?;
        Ok(Self { link, scripts: Scripts::new() })
    }

    /// Whether the cache answers, and did not refuse a change of this process for lack of memory in the last ten seconds.
    ///
    /// # Errors
    /// When it does not answer, or is full.
    pub async fn check(&self) -> Result<(), CacheError> {
        self.read(None).await?;
        match self.link.refused().filter(|ago| *ago < REFUSAL_REPORTED) {
            Some(ago) => Err(CacheError::Full(format!("it refused a change {} s ago", ago.as_secs()).into())),
            None => Ok(()),
        }
    }
}

impl RedisCache {
    /// Reads the field of each minute.
    async fn read_each(&self, minutes: impl Iterator<Item = Minute>) -> Result<Option<Reading>, CacheError> {
        let mut counts = redis::cmd("HMGET");
        counts.arg(COUNTERS).arg(TOTAL);
        for minute in minutes {
            counts.arg(layout::minute(minute));
        }
        let commands = [state(), Cmd::hgetall(WATERMARK), counts];
        let (state, watermark, counts): (State, Fields, Vec<Option<i64>>) = self.link.transaction(&commands).await?;
        let mut counts = counts.into_iter();
        let total = counts.next().flatten();
        Ok(total.and_then(|total| reading(state, &watermark, total, counts.flatten().sum())))
    }

    /// Reads all fields and sums the minutes in the range.
    async fn read_all(&self, minutes: Range<Minute>) -> Result<Option<Reading>, CacheError> {
        let commands = [state(), Cmd::hgetall(WATERMARK), Cmd::hgetall(COUNTERS)];
        let (state, watermark, counters): (State, Fields, Fields) = self.link.transaction(&commands).await?;
        let within = layout::minutes(&counters).range(minutes).map(|(_, count)| count).sum();
        Ok(layout::total(&counters).and_then(|total| reading(state, &watermark, total, within)))
    }
}

/// The generation, and the mark of an incomplete cache.
type State = (Option<String>, Option<String>);

/// Reads the state.
fn state() -> Cmd {
    Cmd::hmget(POSITIONS, &[GENERATION, INCOMPLETE])
}

/// The generation, if the cache is complete.
fn complete((generation, incomplete): State) -> Option<Generation> {
    generation.filter(|_| incomplete.is_none())
}

fn reading(state: State, watermark: &Fields, total: i64, minutes_total: i64) -> Option<Reading> {
    let suspect = layout::value(watermark, SUSPECT).is_some();
    let last_audit = layout::value(watermark, LAST_AUDIT).and_then(|at| at.parse().ok());
    let (as_of, minutes_from) = (layout::as_of(watermark), layout::minutes_from(watermark));
    let generation = complete(state)?;
    Some(Reading { generation, total, minutes_total, minutes_from, as_of, suspect, last_audit })
}

#[async_trait]
impl CounterCache for RedisCache {
    async fn positions(&self) -> Result<Option<Positions>, CacheError> {
        let commands = [Cmd::hexists(COUNTERS, TOTAL), Cmd::hgetall(POSITIONS)];
        let (has_total, fields): (bool, Fields) = self.link.transaction(&commands).await?;
        Ok(if has_total { layout::positions(&fields) } else { None })
    }

    async fn apply(&self, flush: &Flush) -> Result<Applied, CacheError> {
        let arguments = |command: &mut Cmd| script::apply(command, flush);
        let refusal: Option<String> = self.link.script(&self.scripts.apply, &arguments).await?;
        Ok(refusal.map_or(Applied::Done, Applied::Stale))
    }

    async fn install(&self, seen: Option<&Generation>, snapshot: &CacheSnapshot) -> Result<bool, CacheError> {
        let contents = layout::contents(snapshot);
        let arguments = |command: &mut Cmd| script::install(command, seen, &snapshot.positions.generation, &contents);
        self.link.script(&self.scripts.install, &arguments).await
    }

    async fn read(&self, minutes: Option<(Minute, Minute)>) -> Result<Option<Reading>, CacheError> {
        let (from, to) = minutes.unwrap_or((Minute(0), Minute(0)));
        if to.0.saturating_sub(from.0) <= MAX_MINUTES_BY_FIELD {
            self.read_each((from.0..to.0).map(Minute)).await
        } else {
            self.read_all(from..to).await
        }
    }

    async fn have_counted(&self, tokens: &[Token]) -> Result<Vec<bool>, CacheError> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(POSITIONS);
        for token in tokens {
            command.arg(layout::base(token.writer)).arg(layout::mark(token.writer, token.partition));
        }
        let (state, marks): (State, Vec<Option<i64>>) = self.link.transaction(&[state(), command]).await?;
        let complete = complete(state).is_some();
        let counted = |(token, marks): (&Token, &[Option<i64>])| {
            complete && marks.iter().flatten().any(|mark| *mark >= token.seq)
        };
        Ok(tokens.iter().zip(marks.chunks(2)).map(counted).collect())
    }

    async fn counters(&self) -> Result<Option<CacheCounters>, CacheError> {
        let commands = [Cmd::hgetall(WATERMARK), Cmd::hgetall(COUNTERS), Cmd::hgetall(POSITIONS)];
        let (watermark, counters, positions): (Fields, Fields, Fields) = self.link.transaction(&commands).await?;
        let total = layout::total(&counters);
        let Some((positions, total)) = layout::positions(&positions).zip(total) else { return Ok(None) };
        Ok(Some(CacheCounters {
            generation: positions.generation,
            total,
            minutes: layout::minutes(&counters),
            minutes_from: layout::minutes_from(&watermark),
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
        let mut command = redis::cmd("HKEYS");
        let fields: Vec<String> = self.link.command(command.arg(POSITIONS)).await?;
        let writers: BTreeSet<_> = writers.iter().collect();
        let is_forgotten =
            |field: &&String| layout::mark_of(field).is_some_and(|(writer, _)| writers.contains(&writer));
        let fields: Vec<_> = fields.iter().filter(is_forgotten).collect();
        // This need not be atomic: the ids of these writers are never used again, in any generation.
        for fields in fields.chunks(FIELDS_PER_COMMAND) {
            let mut removal = redis::cmd("HDEL");
            self.link.command::<()>(removal.arg(POSITIONS).arg(fields)).await?;
        }
        Ok(())
    }
}
