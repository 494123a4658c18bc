//! Statuses in Redis: one text per node of the tree, with the sources that are listed.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use async_trait::async_trait;
use redis::Cmd;
use uuid::Uuid;

use super::{link::Link, script::Script, settings::RedisSettings};
use ping_core::{Millis, Minute, StatusCounts, StatusRule};
use ping_ports::{
    Access, CACHE_TTL_MINUTES, CacheError, CacheVersion, CachedStatus, Epoch, Listed, MAX_LISTED, NodeStatuses,
    Renewal, Renewed, StatusCache, StatusTimes,
};
use ping_segments::Node;

/// Seconds after its last change until a key expires: longer than a status is valid, and than a hold lasts.
const TTL_SECONDS: u32 = 60 * 60;
/// Nodes that one call of a script holds or releases. The server answers no other client while a script runs (some µs per node), and
/// reads must take only a few milliseconds.
const NODES_PER_CALL: usize = 256;
/// The field of the holds that counts their changes.
const CHANGES: &str = "changes";

/// Statuses in Redis, Dragonfly or Valkey. Their keys contain the rule and the depth that they belong to.
pub struct RedisStatuses {
    link: Link,
    fill: Script,
    hold: Script,
    release: Script,
    renew: Script,
    begin_epoch: Script,
    epoch: String,
    open: String,
    leases: String,
    watermarks: String,
    as_of: String,
    prefix: String,
    depth: u32,
    times: StatusTimes,
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
        // As many nodes as are full with that many sources.
        let depth = (max_sources as usize / MAX_LISTED).max(1).ilog2();
        // A server with another depth than the processors finds no lease, and reads the store.
        let prefix = format!("ping:status:{rule}:{depth}");
        let [epoch, open, leases, watermarks, as_of] =
            ["epoch", "open", "leases", "times", "as_of"].map(|name| format!("{prefix}:{name}"));
        Ok(Self {
            link,
            fill: Script::new(include_str!("fill.lua")),
            hold: Script::new(include_str!("hold.lua")),
            release: Script::new(include_str!("release.lua")),
            renew: Script::new(include_str!("renew.lua")),
            begin_epoch: Script::new(include_str!("begin_epoch.lua")),
            epoch,
            open,
            leases,
            watermarks,
            as_of,
            prefix,
            depth,
            times: StatusTimes::default(),
        })
    }

    /// With other times, which all processors must agree on.
    #[must_use]
    pub fn with_times(self, times: StatusTimes) -> Self {
        Self { times, ..self }
    }

    fn statuses_key(&self, node: Node) -> String {
        format!("{}:{}", self.prefix, node.0)
    }

    fn holds_key(&self, node: Node) -> String {
        format!("{}:{}:holds", self.prefix, node.0)
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

    fn times(&self) -> StatusTimes {
        self.times
    }

    async fn get(&self, source: &str, now: Minute) -> Result<CachedStatus, CacheError> {
        type Values = (Option<Epoch>, Option<Millis>, Option<String>);
        let node = Node::of(source, self.depth);
        // In one command, so that the statuses were valid at the time of the epoch and include everything before the watermark.
        let command = Cmd::mget(&[&self.open, &self.as_of, &self.statuses_key(node)]);
        let (epoch, as_of, text): Values = self.link.command(&command).await?;
        let mut answer = CachedStatus { as_of: as_of.unwrap_or(0), ..CachedStatus::default() };
        let Some(epoch) = epoch else { return Ok(answer) };
        if let Some(statuses) = text.and_then(|text| parse_statuses(&text, epoch, now)) {
            answer.status = statuses.of(source);
        } else {
            let changes: Option<i64> = self.link.command(&Cmd::hget(self.holds_key(node), CHANGES)).await?;
            answer.version = Some(CacheVersion { epoch, changes: changes.unwrap_or(0) });
        }
        Ok(answer)
    }

    async fn versions(&self, epoch: Epoch, nodes: &[Node]) -> Result<Vec<CacheVersion>, CacheError> {
        let commands: Vec<_> = nodes.iter().map(|node| Cmd::hget(self.holds_key(*node), CHANGES)).collect();
        let changes: Vec<Option<i64>> = self.link.transaction(&commands).await?;
        Ok(changes.into_iter().map(|changes| CacheVersion { epoch, changes: changes.unwrap_or(0) }).collect())
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
            command.arg(version.changes).arg(&text).arg(TTL_SECONDS);
        };
        self.link.script_on(&self.fill, &[self.statuses_key(node), self.holds_key(node)], &arguments).await
    }

    async fn hold(&self, id: Uuid, nodes: &[Node]) -> Result<(), CacheError> {
        for nodes in nodes.chunks(NODES_PER_CALL) {
            let keys: Vec<_> =
                nodes.iter().flat_map(|node| [self.statuses_key(*node), self.holds_key(*node)]).collect();
            let arguments = |command: &mut Cmd| {
                command.arg(id.to_string()).arg(millis(self.times.hold)).arg(TTL_SECONDS);
            };
            self.link.script_on::<()>(&self.hold, &keys, &arguments).await?;
        }
        Ok(())
    }

    async fn release(&self, id: Uuid, nodes: &[Node]) -> Result<(), CacheError> {
        for nodes in nodes.chunks(NODES_PER_CALL) {
            let keys: Vec<_> = nodes.iter().map(|node| self.holds_key(*node)).collect();
            let arguments = |command: &mut Cmd| {
                command.arg(id.to_string()).arg(TTL_SECONDS);
            };
            self.link.script_on::<()>(&self.release, &keys, &arguments).await?;
        }
        Ok(())
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, CacheError> {
        let keys = [&self.epoch, &self.open, &self.leases, &self.watermarks, &self.as_of];
        let arguments = |command: &mut Cmd| {
            command.arg(renewal.epoch).arg(millis(self.times.lease)).arg(renewal.from.unwrap_or(0));
            command.arg(renewal.as_of.unwrap_or(0)).arg(renewal.partitions);
            for (partition, leased_until) in &renewal.on {
                command.arg(partition).arg(leased_until);
            }
        };
        let answer: i64 = self.link.script_on(&self.renew, &keys, &arguments).await?;
        Ok(match answer {
            0 => Renewed::Lost,
            time @ 1.. => Renewed::At(time),
            epoch => Renewed::LaterEpoch(-epoch),
        })
    }

    async fn begin_epoch(&self, owner: Uuid, access: Access, known: Epoch) -> Result<Epoch, CacheError> {
        let arguments = |command: &mut Cmd| {
            let closes = access == Access::Closed;
            command.arg(owner.to_string()).arg(u8::from(closes)).arg(millis(self.times.hold)).arg(known);
        };
        self.link.script_on(&self.begin_epoch, &[&self.epoch, &self.open, &self.leases], &arguments).await
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
