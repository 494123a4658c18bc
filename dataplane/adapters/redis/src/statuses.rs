//! Statuses in Redis: one text per node of the tree, with the sources that are listed.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::Cmd;

use super::{link::Link, script::Script, settings::RedisSettings};
use ping_core::{Millis, Minute, StatusCounts, StatusRule};
use ping_ports::{
    CACHE_TTL_MINUTES, CacheError, CacheVersion, Cached, CachedStatus, Epoch, Listed, MAX_LISTED, NodeStatuses,
    StatusCache, StatusWatermark,
};
use ping_segments::Node;

/// Seconds after its last change until a key expires: longer than a status is valid.
const TTL_SECONDS: u32 = 60 * 60;
/// Nodes that one call of the script invalidates. The server answers no other client while a script runs (about 2 µs per node), and
/// reads must take only a few milliseconds.
const NODES_PER_CALL: usize = 256;
/// How long a header is reused. Meanwhile a read is one command instead of four, which saves a sixth of the CPU of this process and
/// some of the cache's.
const HEADER_TTL: Duration = Duration::from_millis(20);

/// Values that apply to all sources. Reusing them is safe: the watermark of an answer is a little older than it could be, nothing else.
#[derive(Clone, Copy, Debug)]
struct CacheHeader {
    epoch: Epoch,
    as_of: Millis,
    /// When it was requested.
    requested: Instant,
    /// The number of connections that had broken by then. After another one, a different server with less data may answer.
    broken_connections: u64,
}

/// Statuses in Redis, Dragonfly or Valkey. Their keys contain the rule and the depth that they belong to.
pub struct RedisStatuses {
    link: Link,
    header: Mutex<Option<CacheHeader>>,
    fill: Script,
    invalidate: Script,
    advance_watermark: Script,
    epoch: String,
    times: String,
    as_of: String,
    prefix: String,
    depth: u32,
}

impl fmt::Debug for RedisStatuses {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RedisStatuses").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisStatuses {
    /// For `rule`. Lists at most `max_sources` sources, but at least 128. Does not connect yet.
    ///
    /// # Errors
    /// When the URL is not valid, or the settings contradict each other.
    pub fn new(settings: &RedisSettings, rule: &StatusRule, max_sources: u32) -> Result<Self, CacheError> {
        let link = Link::new(settings).map_err(|error| CacheError::Unavailable(Box::new(error)))?;
        let fill = Script::new(include_str!("fill.lua"));
        let invalidate = Script::new(include_str!("invalidate.lua"));
        // As many nodes as are full with that many sources.
        let depth = (max_sources as usize / MAX_LISTED).max(1).ilog2();
        // A server with another depth than the processors finds no watermark, and statuses that nobody invalidates have none.
        let prefix = format!("ping:status:{rule}:{depth}");
        let advance_watermark = Script::new(include_str!("advance_watermark.lua"));
        let [epoch, times, as_of] = ["epoch", "times", "as_of"].map(|name| format!("{prefix}:{name}"));
        let header = Mutex::new(None);
        Ok(Self { link, header, fill, invalidate, advance_watermark, epoch, times, as_of, prefix, depth })
    }

    fn recent_header(&self) -> Option<CacheHeader> {
        self.header.lock().filter(|header| header.requested.elapsed() < HEADER_TTL)
    }

    /// The keys of a node: its statuses, and the number of its invalidations.
    fn keys(&self, node: Node) -> [String; 2] {
        let statuses = format!("{}:{}", self.prefix, node.0);
        let invalidations = format!("{statuses}:invalidations");
        [statuses, invalidations]
    }

    /// The answer to a reader. What the cache does not hold may be cached, if the node is still at the version it has now.
    async fn answer(
        &self,
        header: CacheHeader,
        status: Cached,
        invalidations: &str,
    ) -> Result<CachedStatus, CacheError> {
        let mut answer = CachedStatus { status, as_of: header.as_of, ..CachedStatus::default() };
        answer.version.epoch = header.epoch;
        if status == Cached::Nothing {
            let count: Option<i64> = self.link.command(&Cmd::get(invalidations)).await?;
            answer.version.invalidations = count.unwrap_or(0);
        }
        Ok(answer)
    }
}

/// The text of a node's statuses: `epoch:minute:complete:`, then for each listed source the length of its name in bytes, `:`, its name, and
/// either `negative:positive:revoked;` or, if it is near, `;`.
fn format_statuses(epoch: Epoch, now: Minute, statuses: &NodeStatuses) -> String {
    let mut text = format!("{epoch}:{}:{}:", now.0, u8::from(statuses.complete));
    for (source, listed) in &statuses.listed {
        // Writing to a text does not fail.
        let _ = match listed {
            Listed::Decided(StatusCounts { negative, revoked, positive }) => {
                write!(text, "{}:{source}{negative}:{positive}:{revoked};", source.len())
            }
            Listed::Near => write!(text, "{}:{source};", source.len()),
        };
    }
    text
}

/// The statuses in a text; `None` when it is malformed or no longer valid.
fn parse_statuses(text: &str, epoch: Epoch, now: Minute) -> Option<NodeStatuses> {
    let mut header = text.splitn(4, ':');
    let [stored_epoch, minute, complete] = [(); 3].map(|()| header.next().and_then(|part| part.parse::<i64>().ok()));
    if stored_epoch? != epoch || minute? <= now.back(CACHE_TTL_MINUTES).0 {
        return None;
    }
    let (mut rest, mut listed) = (header.next()?, BTreeMap::new());
    while !rest.is_empty() {
        let (length, named) = rest.split_once(':')?;
        let (source, counts) = named.split_at_checked(length.parse().ok()?)?;
        let (counts, others) = counts.split_once(';')?;
        listed.insert(source.into(), parse_listed(counts)?);
        rest = others;
    }
    Some(NodeStatuses { listed, complete: complete? == 1 })
}

fn parse_listed(text: &str) -> Option<Listed> {
    if text.is_empty() {
        return Some(Listed::Near);
    }
    let counts = text.split(':').map(|count| count.parse().ok()).collect::<Option<Vec<i64>>>()?;
    let [negative, positive, revoked] = *counts else { return None };
    Some(Listed::Decided(StatusCounts { negative, revoked, positive }))
}

#[async_trait]
impl StatusCache for RedisStatuses {
    fn depth(&self) -> u32 {
        self.depth
    }

    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        let [statuses, invalidations] = self.keys(Node::of(source, self.depth));
        let status = |header: &CacheHeader, text: Option<String>| {
            let statuses = text.and_then(|text| parse_statuses(&text, header.epoch, now));
            statuses.map_or(Cached::Nothing, |statuses| statuses.of(source))
        };
        let command = Cmd::get(statuses);
        if let Some(header) = self.recent_header() {
            let text: Option<String> = self.link.command(&command).await?;
            if header.broken_connections == self.link.broken_connections() {
                return self.answer(header, status(&header, text), &invalidations).await;
            }
        }
        let (requested, broken_connections) = (Instant::now(), self.link.broken_connections());
        type Values = ((Option<Epoch>, Option<Millis>), Option<String>);
        let commands = [Cmd::mget(&[&self.epoch, &self.as_of]), command];
        let ((epoch, as_of), text): Values = self.link.transaction(&commands).await?;
        let (epoch, as_of) = (epoch.unwrap_or(0), as_of.unwrap_or(0));
        let header = CacheHeader { epoch, as_of, requested, broken_connections };
        *self.header.lock() = Some(header);
        self.answer(header, status(&header, text), &invalidations).await
    }

    async fn fill(
        &self,
        version: CacheVersion,
        now: Minute,
        node: Node,
        statuses: &NodeStatuses,
    ) -> Result<(), CacheError> {
        let text = format_statuses(version.epoch, now, statuses);
        let arguments = |command: &mut Cmd| {
            command.arg(version.invalidations).arg(&text).arg(TTL_SECONDS);
        };
        self.link.script_on(&self.fill, &self.keys(node), &arguments).await
    }

    async fn invalidate(&self, nodes: &[Node]) -> Result<(), CacheError> {
        for nodes in nodes.chunks(NODES_PER_CALL) {
            let keys: Vec<_> = nodes.iter().flat_map(|node| self.keys(*node)).collect();
            let arguments = |command: &mut Cmd| {
                command.arg(TTL_SECONDS);
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
    fn statuses_survive_as_a_text_in_their_epoch_and_for_some_minutes() {
        let now = Minute(1_000);
        let decided = Listed::Decided(StatusCounts { negative: 0, revoked: 5, positive: 7 });
        let names = ["a", "3:x;", "grün", ":", ";", "1:2:3;"];
        let near = names.map(|name| (format!("near {name}").into(), Listed::Near));
        let listed = names.map(|name| (name.into(), decided)).into_iter().chain(near).collect();
        for statuses in
            [NodeStatuses { listed, complete: true }, NodeStatuses { listed: BTreeMap::new(), complete: false }]
        {
            let text = format_statuses(3, now, &statuses);
            assert_eq!(parse_statuses(&text, 3, Minute(1_009)), Some(statuses), "{text}");
            assert_eq!((parse_statuses(&text, 4, now), parse_statuses(&text, 3, Minute(1_010))), (None, None));
        }
        for malformed in
            ["", "nonsense", "3:1000:1", "3:1000:1:x", "3:1000:1:9:a;", "3:1000:1:1:a0:7;", "3:1000:1:1:a0:7:x;"]
        {
            assert_eq!(parse_statuses(malformed, 3, now), None, "{malformed}");
        }
    }
}
