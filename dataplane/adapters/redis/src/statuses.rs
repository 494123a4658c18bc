//! Statuses in Redis: one text per node of the tree, with the sources that are listed.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use async_trait::async_trait;
use percent_encoding::{AsciiSet, PercentEncode, percent_decode_str, utf8_percent_encode};
use redis::Cmd;
use uuid::Uuid;

use super::{link::Link, script::Script, settings::RedisSettings};
use ping_core::{Millis, Minute, StatusCounts, StatusRule};
use ping_ports::{
    Access, CACHE_TTL_MINUTES, CacheError, CacheVersion, CachedStatus, Epoch, Listed, MAX_LISTED, NodeHold,
    NodeStatuses, Renewal, Renewed, StatusCache, StatusTimes, Unless,
};
use ping_segments::Node;

/// Seconds after its last change until a key expires: longer than a status is valid, and than a hold lasts.
const TTL_SECONDS: u32 = 60 * 60;
/// Nodes that one call of a script holds or releases, and their conditions. The server answers no other client while a script runs (some µs
/// per node and per condition), and reads must take only a few milliseconds.
const NODES_PER_CALL: usize = 256;
/// The format of the texts of statuses; part of the keys. The first one had no number.
const FORMAT: u32 = 2;
/// What separates the parts of a text of statuses, and so is encoded in names.
const SEPARATORS: &AsciiSet = &AsciiSet::EMPTY.add(b':').add(b';').add(b'%');
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
        // So does one of a version that caches other texts: each format has a number.
        let prefix = format!("ping:status:{FORMAT}:{rule}:{depth}");
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

/// The text of a node's statuses: `epoch:minute:complete;`, then each listed source: `name:n:negative:positive:revoked;` if it is negative,
/// `name:p:negative:positive:revoked;` if it is positive, and `name;` if it is near.
fn format_statuses(epoch: Epoch, now: Minute, statuses: &NodeStatuses) -> String {
    let mut text = format!("{epoch}:{}:{};", now.0, u8::from(statuses.complete));
    for (source, listed) in &statuses.listed {
        let name = encoded(source);
        // Writing to a text does not fail.
        let _ = match listed {
            Listed::Negative(StatusCounts { negative, revoked, positive }) => {
                write!(text, "{name}:n:{negative}:{positive}:{revoked};")
            }
            Listed::Positive(StatusCounts { negative, revoked, positive }) => {
                write!(text, "{name}:p:{negative}:{positive}:{revoked};")
            }
            Listed::Near => write!(text, "{name};"),
        };
    }
    text
}

fn encoded(source: &str) -> PercentEncode<'_> {
    utf8_percent_encode(source, SEPARATORS)
}

/// What a text of statuses contains if and only if they meet `condition`.
fn part_of_text(condition: &Unless) -> String {
    match condition {
        Unless::Negative(source) => format!(";{}:n:", encoded(source)),
        Unless::Decided(source) => format!(";{}:", encoded(source)),
    }
}

/// Splits `nodes` into calls of a script.
fn calls(mut nodes: &[NodeHold]) -> Vec<&[NodeHold]> {
    let mut calls = Vec::new();
    while !nodes.is_empty() {
        let mut size = 0;
        let fits = |hold: &&NodeHold| {
            size += 1 + hold.unless.len();
            size <= NODES_PER_CALL
        };
        let (call, others) = nodes.split_at(nodes.iter().take_while(fits).count().max(1));
        calls.push(call);
        nodes = others;
    }
    calls
}

/// The statuses in a text; `None` when it is malformed or no longer valid.
fn parse_statuses(text: &str, epoch: Epoch, now: Minute) -> Option<NodeStatuses> {
    let (header, listed) = text.split_once(';')?;
    let header = header.split(':').map(|part| part.parse().ok()).collect::<Option<Vec<i64>>>()?;
    let [stored_epoch, minute, complete] = *header else { return None };
    if stored_epoch != epoch || minute <= now.back(CACHE_TTL_MINUTES).0 {
        return None;
    }
    let listed = listed.split_terminator(';').map(parse_listed).collect::<Option<_>>()?;
    Some(NodeStatuses { listed, complete: complete == 1 })
}

fn parse_listed(text: &str) -> Option<(Box<str>, Listed)> {
    let mut parts = text.split(':');
    let source = percent_decode_str(parts.next()?).decode_utf8().ok()?.into();
    let Some(verdict) = parts.next() else { return Some((source, Listed::Near)) };
    let counts = parts.map(|count| count.parse().ok()).collect::<Option<Vec<i64>>>()?;
    let [negative, positive, revoked] = *counts else { return None };
    let counts = StatusCounts { negative, revoked, positive };
    match verdict {
        "n" => Some((source, Listed::Negative(counts))),
        "p" => Some((source, Listed::Positive(counts))),
        _ => None,
    }
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

    async fn hold(&self, id: Uuid, nodes: &[NodeHold]) -> Result<(), CacheError> {
        for nodes in calls(nodes) {
            let keys: Vec<_> =
                nodes.iter().flat_map(|hold| [self.statuses_key(hold.node), self.holds_key(hold.node)]).collect();
            let arguments = |command: &mut Cmd| {
                command.arg(id.to_string()).arg(millis(self.times.hold)).arg(TTL_SECONDS);
                for NodeHold { unless, .. } in nodes {
                    command.arg(unless.len()).arg(unless.iter().map(part_of_text).collect::<Vec<_>>());
                }
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
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_call_holds_all_conditions_of_its_nodes_and_not_too_many() {
        let hold =
            |conditions: usize| NodeHold { node: Node::ROOT, unless: vec![Unless::Negative("a".into()); conditions] };
        let nodes: Vec<_> = [0; 256].into_iter().chain([255, 0, 500, 1, 253, 0]).map(hold).collect();
        let calls = calls(&nodes);
        assert_eq!(calls.iter().map(|call| call.len()).collect::<Vec<_>>(), [256, 1, 1, 1, 2, 1]);
        assert_eq!(calls.concat(), nodes);
        assert!(super::calls(&[]).is_empty());
    }

    #[test]
    fn statuses_survive_as_a_text_in_their_epoch_and_for_some_minutes() {
        let now = Minute(1_000);
        let counts = StatusCounts { negative: 1, revoked: 5, positive: 7 };
        let all =
            [("near", Listed::Near), ("negative", Listed::Negative(counts)), ("positive", Listed::Positive(counts))];
        let named = |name: &str| all.map(|(prefix, listed)| (format!("{prefix} {name}").into(), listed));
        let listed =
            ["a", "3:x;", "grün", ":", ";", "%3A", "1:2:3;", ";a:n:1:0:0;"].into_iter().flat_map(named).collect();
        for statuses in
            [NodeStatuses { listed, complete: true }, NodeStatuses { listed: BTreeMap::new(), complete: false }]
        {
            let text = format_statuses(3, now, &statuses);
            assert_eq!(parse_statuses(&text, 3, Minute(1_009)), Some(statuses), "{text}");
            assert_eq!((parse_statuses(&text, 4, now), parse_statuses(&text, 3, Minute(1_010))), (None, None));
        }
        for malformed in [
            "",
            "nonsense",
            "3:1000:1",
            "3:1000:1:1;",
            "3:1000:x;",
            "3:1000:1;a:;",
            "3:1000:1;a:x:0:7:0;",
            "3:1000:1;a:p:0:7;",
        ] {
            assert_eq!(parse_statuses(malformed, 3, now), None, "{malformed}");
        }
    }
}
