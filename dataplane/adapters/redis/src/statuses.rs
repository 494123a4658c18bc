//! StatusCounts in Redis: hashes of a few dozen sources each, which the server keeps as compact lists.

use std::{
    fmt,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::Cmd;

use super::{RedisSettings, link::Link, script::Script};
use ping_core::{Millis, Minute, StatusCounts, StatusRule, partition_of};
use ping_ports::{CACHE_TTL_MINUTES, CacheError, CachedStatus, Epoch, StatusCache, StatusUpdate, StatusWatermark};

/// Sources in a bucket: below the 128 up to which Redis keeps a hash as a list.
const ROOM: u32 = 100;
/// Seconds that a bucket outlives its last change: what nobody asks for and nothing happens to goes.
const KEPT: u32 = 7 * 24 * 60 * 60;
/// Entries in one script: while it runs nobody is answered, and readers are promised a few milliseconds (10 µs an entry).
const CHUNK: usize = 32;
/// How long a heading is good for. Meanwhile a read is one command instead of four, which saves a sixth of the CPU here, and some
/// of the cache's (bench/README.md).
const REMEMBERED: Duration = Duration::from_millis(20);

/// What is said of all sources at once. It stays true of what is held afterwards, which only grows: answers are as of a little
/// earlier, no more.
#[derive(Clone, Copy, Debug)]
struct CacheHeader {
    epoch: Epoch,
    as_of: Millis,
    /// When it was asked for.
    asked: Instant,
    /// Connections that had broken by then: another server may hold less.
    broken: u64,
}

impl CacheHeader {
    fn over(&self, value: Option<&str>, now: Minute) -> CachedStatus {
        let counts = value.and_then(|value| read(value, self.epoch, now));
        CachedStatus { epoch: self.epoch, counts, as_of: self.as_of }
    }
}

/// StatusCounts in Redis, Dragonfly or Valkey, under the names of the rule it is for.
pub struct RedisStatuses {
    link: Link,
    heading: Mutex<Option<CacheHeader>>,
    merge_max: Script,
    advance_watermark: Script,
    epoch: String,
    times: String,
    as_of: String,
    prefix: String,
    buckets: u32,
}

impl fmt::Debug for RedisStatuses {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RedisStatuses").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisStatuses {
    /// For `rule` and at most about `bound` sources. Does not connect yet.
    ///
    /// # Errors
    /// When the URL is not one.
    pub fn new(settings: &RedisSettings, rule: &StatusRule, bound: u32) -> Result<Self, CacheError> {
        let link = Link::new(settings).map_err(|error| CacheError(Box::new(error)))?;
        let prefix = format!("ping:status:{rule}");
        let merge_max = Script::new(include_str!("merge_max.lua"));
        let buckets = bound.div_ceil(ROOM).max(1);
        let advance_watermark = Script::new(include_str!("advance_watermark.lua"));
        let [epoch, times, as_of] = ["epoch", "times", "as_of"].map(|name| format!("{prefix}:{name}"));
        Ok(Self { link, heading: Mutex::new(None), merge_max, advance_watermark, epoch, times, as_of, prefix, buckets })
    }

    fn remembered(&self) -> Option<CacheHeader> {
        self.heading.lock().filter(|heading| heading.asked.elapsed() < REMEMBERED)
    }

    fn bucket(&self, source: &str) -> String {
        format!("{}:{}", self.prefix, partition_of(source, self.buckets))
    }
}

/// Reads `epoch:minute:not:yes:final`; nothing when it is not to be believed.
fn read(value: &str, epoch: Epoch, now: Minute) -> Option<StatusCounts> {
    let mut parts = value.split(':').map(|part| part.parse::<i64>().ok());
    let mut next = || parts.next().flatten();
    let (its, at, not, yes, last) = (next()?, next()?, next()?, next()?, next()?);
    let believed = last == 1 || (its == epoch && at > now.back(CACHE_TTL_MINUTES).0);
    believed.then_some(StatusCounts { negative: not, positive: yes })
}

#[async_trait]
impl StatusCache for RedisStatuses {
    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        let entry = Cmd::hget(self.bucket(source), source);
        if let Some(heading) = self.remembered() {
            let value: Option<String> = self.link.command(&entry).await?;
            if heading.broken == self.link.broken() {
                return Ok(heading.over(value.as_deref(), now));
            }
        }
        let (asked, broken) = (Instant::now(), self.link.broken());
        type Answer = ((Option<Epoch>, Option<Millis>), Option<String>);
        let question = [Cmd::mget(&[&self.epoch, &self.as_of]), entry];
        let ((epoch, as_of), value): Answer = self.link.transaction(&question).await?;
        let heading = CacheHeader { epoch: epoch.unwrap_or(0), as_of: as_of.unwrap_or(0), asked, broken };
        *self.heading.lock() = Some(heading);
        Ok(heading.over(value.as_deref(), now))
    }

    async fn merge_max(&self, epoch: Option<Epoch>, now: Minute, all: &[StatusUpdate]) -> Result<(), CacheError> {
        for chunk in all.chunks(CHUNK) {
            let keys: Vec<_> = std::iter::once(self.epoch.clone())
                .chain(chunk.iter().map(|update| self.bucket(&update.source)))
                .collect();
            let arguments = |command: &mut Cmd| {
                command.arg(epoch.map_or_else(String::new, |epoch| epoch.to_string()));
                command.arg(now.0).arg(ROOM).arg(KEPT);
                for StatusUpdate { source, counts, last } in chunk {
                    command.arg(&**source).arg(counts.negative).arg(counts.positive).arg(u8::from(*last));
                }
            };
            self.link.script_on::<()>(&self.merge_max, &keys, &arguments).await?;
        }
        Ok(())
    }

    async fn advance_watermark(&self, watermark: &StatusWatermark) -> Result<(), CacheError> {
        let arguments = |command: &mut Cmd| {
            command.arg(watermark.as_of).arg(watermark.partitions).arg(&watermark.on);
        };
        let told = self.link.script_on::<()>(&self.advance_watermark, &[&self.times, &self.as_of], &arguments).await;
        *self.heading.lock() = None;
        told
    }

    async fn begin_epoch(&self) -> Result<(), CacheError> {
        let begun = self.link.command(&Cmd::incr(&self.epoch, 1)).await;
        *self.heading.lock() = None;
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_final_outlives_its_epoch_and_its_minutes() {
        let now = Minute(1_000);
        let counts = Some(StatusCounts { negative: 0, positive: 7 });
        assert_eq!(read("3:1000:0:7:0", 3, now), counts);
        assert_eq!(read("2:1000:0:7:0", 3, now), None);
        assert_eq!(read("3:990:0:7:0", 3, now), None);
        assert_eq!(read("2:1:1:7:1", 3, now), Some(StatusCounts { negative: 1, positive: 7 }));
        assert_eq!(read("nonsense", 3, now), None);
    }
}
