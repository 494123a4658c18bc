//! Status counts in Redis: hashes of up to a hundred sources each, which the server stores as compact lists.

use std::{
    fmt,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::Cmd;

use super::{link::Link, script::Script, settings::RedisSettings};
use ping_core::{Millis, Minute, StatusCounts, StatusRule, partition_of};
use ping_ports::{
    CACHE_TTL_MINUTES, CacheError, CacheVersion, CachedStatus, Epoch, StatusCache, StatusUpdate, StatusWatermark,
};

/// Sources per bucket: below the 128 up to which Redis stores a hash as a list.
const BUCKET_CAPACITY: u32 = 100;
/// Seconds after its last change until a bucket expires.
const BUCKET_TTL_SECONDS: u32 = 7 * 24 * 60 * 60;
/// Sources that one call of the script invalidates. The server answers no other client while a script runs (about 2 µs per source), and
/// reads must take only a few milliseconds.
const SOURCES_PER_CALL: usize = 256;
/// How long a header is reused. Meanwhile a read is one command instead of four, which saves a sixth of the CPU of this process and
/// some of the cache's.
const HEADER_TTL: Duration = Duration::from_millis(20);

/// Values that apply to all sources. Reusing them is safe, because counts only grow: the watermark of an answer is a little older than
/// it could be, nothing else.
#[derive(Clone, Copy, Debug)]
struct CacheHeader {
    epoch: Epoch,
    as_of: Millis,
    /// When it was requested.
    requested: Instant,
    /// The number of connections that had broken by then. After another one, a different server with less data may answer.
    broken_connections: u64,
}

impl CacheHeader {
    fn counts(&self, value: Option<&str>, now: Minute) -> Option<StatusCounts> {
        value.and_then(|value| parse(value, self.epoch, now))
    }
}

/// Status counts in Redis, Dragonfly or Valkey. Their keys contain the rule that they belong to.
pub struct RedisStatuses {
    link: Link,
    header: Mutex<Option<CacheHeader>>,
    merge_max: Script,
    invalidate: Script,
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
    /// For `rule` and about `max_sources` sources at most. Does not connect yet.
    ///
    /// # Errors
    /// When the URL is not valid, or the settings contradict each other.
    pub fn new(settings: &RedisSettings, rule: &StatusRule, max_sources: u32) -> Result<Self, CacheError> {
        let link = Link::new(settings).map_err(|error| CacheError::Unavailable(Box::new(error)))?;
        let prefix = format!("ping:status:{rule}");
        let merge_max = Script::new(include_str!("merge_max.lua"));
        let invalidate = Script::new(include_str!("invalidate.lua"));
        let buckets = max_sources.div_ceil(BUCKET_CAPACITY).max(1);
        let advance_watermark = Script::new(include_str!("advance_watermark.lua"));
        let [epoch, times, as_of] = ["epoch", "times", "as_of"].map(|name| format!("{prefix}:{name}"));
        let header = Mutex::new(None);
        Ok(Self { link, header, merge_max, invalidate, advance_watermark, epoch, times, as_of, prefix, buckets })
    }

    fn recent_header(&self) -> Option<CacheHeader> {
        self.header.lock().filter(|header| header.requested.elapsed() < HEADER_TTL)
    }

    /// The keys of a source: its bucket, and the number of invalidations in this bucket.
    fn keys(&self, source: &str) -> [String; 2] {
        let bucket = format!("{}:{}", self.prefix, partition_of(source, self.buckets));
        let invalidations = format!("{bucket}:invalidations");
        [bucket, invalidations]
    }

    /// The answer to a reader. What the cache does not hold may be cached, if the bucket is still at the version it has now.
    async fn answer(
        &self,
        header: CacheHeader,
        value: Option<&str>,
        invalidations: &str,
        now: Minute,
    ) -> Result<CachedStatus, CacheError> {
        let mut status =
            CachedStatus { counts: header.counts(value, now), as_of: header.as_of, ..CachedStatus::default() };
        status.version.epoch = header.epoch;
        if status.counts.is_none() {
            let count: Option<i64> = self.link.command(&Cmd::get(invalidations)).await?;
            status.version.invalidations = count.unwrap_or(0);
        }
        Ok(status)
    }
}

/// Parses `epoch:minute:negative:positive:final` or, if events are revoked, `epoch:minute:negative:positive:final:revoked`; `None` when
/// the value is malformed or no longer valid.
fn parse(value: &str, epoch: Epoch, now: Minute) -> Option<StatusCounts> {
    let parts = value.split(':').map(|part| part.parse().ok()).collect::<Option<Vec<i64>>>()?;
    let (stored_epoch, minute, negative, positive, revoked) = match *parts {
        [epoch, minute, negative, positive, _] => (epoch, minute, negative, positive, 0),
        [epoch, minute, negative, positive, _, revoked] => (epoch, minute, negative, positive, revoked),
        _ => return None,
    };
    let valid = stored_epoch == epoch && minute > now.back(CACHE_TTL_MINUTES).0;
    valid.then_some(StatusCounts { negative, revoked, positive })
}

#[async_trait]
impl StatusCache for RedisStatuses {
    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        let [bucket, invalidations] = self.keys(source);
        let entry = Cmd::hget(bucket, source);
        if let Some(header) = self.recent_header() {
            let value: Option<String> = self.link.command(&entry).await?;
            if header.broken_connections == self.link.broken_connections() {
                return self.answer(header, value.as_deref(), &invalidations, now).await;
            }
        }
        let (requested, broken_connections) = (Instant::now(), self.link.broken_connections());
        type Values = ((Option<Epoch>, Option<Millis>), Option<String>);
        let commands = [Cmd::mget(&[&self.epoch, &self.as_of]), entry];
        let ((epoch, as_of), value): Values = self.link.transaction(&commands).await?;
        let (epoch, as_of) = (epoch.unwrap_or(0), as_of.unwrap_or(0));
        let header = CacheHeader { epoch, as_of, requested, broken_connections };
        *self.header.lock() = Some(header);
        self.answer(header, value.as_deref(), &invalidations, now).await
    }

    async fn merge_max(&self, version: CacheVersion, now: Minute, update: &StatusUpdate) -> Result<(), CacheError> {
        let StatusUpdate { source, counts, last } = update;
        let arguments = |command: &mut Cmd| {
            command.arg(version.invalidations).arg(version.epoch);
            command.arg(now.0).arg(BUCKET_CAPACITY).arg(BUCKET_TTL_SECONDS);
            command.arg(&**source).arg(counts.negative).arg(counts.positive).arg(u8::from(*last));
            command.arg(counts.revoked);
        };
        self.link.script_on(&self.merge_max, &self.keys(source), &arguments).await
    }

    async fn invalidate(&self, sources: &[Box<str>]) -> Result<(), CacheError> {
        for sources in sources.chunks(SOURCES_PER_CALL) {
            let keys: Vec<_> = sources.iter().flat_map(|source| self.keys(source)).collect();
            let arguments = |command: &mut Cmd| {
                command.arg(BUCKET_TTL_SECONDS);
                for source in sources {
                    command.arg(&**source);
                }
            };
            self.link.script_on::<()>(&self.invalidate, &keys, &arguments).await?;
        }
        Ok(())
    }

    async fn advance_watermark(&self, watermark: &StatusWatermark) -> Result<(), CacheError> {
        let arguments = |command: &mut Cmd| {
            command.arg(watermark.as_of).arg(watermark.partitions).arg(&watermark.on);
        };
        let advanced =
            self.link.script_on::<()>(&self.advance_watermark, &[&self.times, &self.as_of], &arguments).await;
        *self.header.lock() = None;
        advanced
    }

    async fn begin_epoch(&self) -> Result<(), CacheError> {
        let begun = self.link.command(&Cmd::incr(&self.epoch, 1)).await;
        *self.header.lock() = None;
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_valid_in_their_epoch_and_for_some_minutes() {
        let now = Minute(1_000);
        let counts = StatusCounts { negative: 0, revoked: 0, positive: 7 };
        assert_eq!(parse("3:1000:0:7:0", 3, now), Some(counts));
        assert_eq!(parse("3:1000:0:7:0:5", 3, now), Some(StatusCounts { revoked: 5, ..counts }));
        assert_eq!(parse("3:1000:1:7:1", 3, now), Some(StatusCounts { negative: 1, ..counts }));
        for (value, epoch) in [("2:1000:0:7:0", 3), ("3:990:0:7:0", 3), ("2:1000:1:7:1", 3), ("3:990:1:7:1", 3)] {
            assert_eq!(parse(value, epoch, now), None, "{value}");
        }
        for malformed in ["nonsense", "", "3:1000:0:7", "3:1000:0:7:0:5:1", "3:1000:0:x:0"] {
            assert_eq!(parse(malformed, 3, now), None, "{malformed}");
        }
    }
}
