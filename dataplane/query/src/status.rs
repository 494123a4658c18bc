//! Statuses of sources: from the cache, or from the store if the cache does not hold one.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;

use super::sources::{AsOf, SourceError, validate_source};
use ping_core::{KindCounts, Millis, Minute, Revocation, StatusCounts, StatusRule, Verdict};
use ping_ports::{CacheVersion, Cached, Clock, NodeStatuses, SourceReader, StatusCache, StoreError, chain};
use ping_segments::Node;

/// A group has the nodes that many levels below its top: eight.
const GROUP_LEVELS: u32 = 3;

/// The status of a source and the counts it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// The result of the status rule.
    pub verdict: Verdict,
    /// Events of the two kinds of the rule, capped at their thresholds. There may be more if the cache answered.
    pub counts: StatusCounts,
    /// No later event can change the status, but for a revocation.
    pub is_final: bool,
    /// The cache answered, not the store.
    pub cached: bool,
}

/// Reads statuses.
#[derive(Clone)]
pub struct StatusQuery {
    rule: StatusRule,
    cache: Arc<dyn StatusCache>,
    reader: Arc<dyn SourceReader>,
    clock: Arc<dyn Clock>,
}

impl StatusQuery {
    /// `rule` must equal that of the processors.
    #[must_use]
    pub fn new(
        rule: StatusRule,
        cache: Arc<dyn StatusCache>,
        reader: Arc<dyn SourceReader>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { rule, cache, reader, clock }
    }

    /// The status of `source`; unknown if it has no events.
    ///
    /// # Errors
    /// When `source` is empty or too long, or neither cache nor store answers.
    pub async fn of(&self, source: &str) -> Result<AsOf<SourceStatus>, SourceError> {
        validate_source(source)?;
        let now = self.clock.now();
        // An unavailable cache makes the answer slower, not impossible.
        let cached = self.cache.get(source, Minute::of(now)).await.ok();
        let counts = match cached.map(|cached| cached.status) {
            Some(Cached::Decided(counts)) => Some(counts),
            Some(Cached::Unknown) => Some(StatusCounts::default()),
            Some(Cached::Nothing) | None => None,
        };
        if let Some((cached, counts)) = cached.zip(counts) {
            return Ok(AsOf::new(self.status(counts, true), cached.as_of, now));
        }
        // First the watermark: it must hold for the counts.
        let as_of = self.reader.as_of().await?;
        let counts = self.read(source, cached.and_then(|cached| cached.version), Minute::of(now)).await?;
        Ok(AsOf::new(self.status(counts, false), as_of, now))
    }

    /// Reads the status of `source` from the store. If the cache may be filled, reads all sources of its group, and caches their statuses.
    async fn read(&self, source: &str, version: Option<CacheVersion>, now: Minute) -> Result<StatusCounts, StoreError> {
        let node = Node::of(source, self.cache.depth());
        let group = match version {
            // Before the store is read.
            Some(version) => Group::of(node, version, &*self.cache).await,
            None => Group { top: node, nodes: BTreeMap::new() },
        };
        let sources = self.reader.kind_counts_in(group.top, &self.rule.kinds()).await?;
        let counts = sources.get(source).map(|kinds| self.rule.counts(kinds)).unwrap_or_default();
        self.fill(group, sources, now).await;
        Ok(counts)
    }

    /// Caches the statuses of the `sources` of a group.
    async fn fill(&self, group: Group, sources: BTreeMap<Box<str>, KindCounts>, now: Minute) {
        let mut of_nodes: BTreeMap<Node, BTreeMap<Box<str>, KindCounts>> = BTreeMap::new();
        for (source, kinds) in sources {
            of_nodes.entry(Node::of(&source, self.cache.depth())).or_default().insert(source, kinds);
        }
        let fills = group.nodes.into_iter().map(|(node, version)| {
            let statuses = NodeStatuses::new(&self.rule, &of_nodes.remove(&node).unwrap_or_default());
            async move { self.cache.fill(version, now, node, &statuses).await }
        });
        for error in join_all(fills).await.into_iter().filter_map(Result::err) {
            tracing::debug!(error = chain(&error), "cannot cache statuses; the next query reads the store again");
        }
    }

    fn status(&self, counts: StatusCounts, cached: bool) -> SourceStatus {
        SourceStatus { verdict: self.rule.judge(counts), counts, is_final: self.rule.is_final(counts), cached }
    }
}

/// Nodes that are read together. Most of the segments with the sources of one node have those of the others too, so that reading all
/// of them takes hardly longer.
struct Group {
    /// The node that all of them are below, or the only one.
    top: Node,
    /// Those whose statuses may be cached, each with the version before the store is read.
    nodes: BTreeMap<Node, CacheVersion>,
}

impl Group {
    /// The group of `node`, which has `version`.
    async fn of(node: Node, version: CacheVersion, cache: &dyn StatusCache) -> Self {
        let levels = node.depth().min(GROUP_LEVELS);
        let top = Node(node.0 >> levels);
        let others: Vec<_> =
            (top.0 << levels..(top.0 + 1) << levels).map(Node).filter(|other| *other != node).collect();
        let Ok(versions) = cache.versions(version.epoch, &others).await else {
            return Self { top: node, nodes: [(node, version)].into() };
        };
        Self { top, nodes: others.into_iter().zip(versions).chain([(node, version)]).collect() }
    }
}

/// The counts that the status of `source` follows from, and their watermark.
async fn kinds_of(
    source: &str,
    rule: &StatusRule,
    reader: &dyn SourceReader,
) -> Result<(KindCounts, Millis), StoreError> {
    // First the watermark: it must hold for the counts.
    let as_of = reader.as_of().await?;
    let mut counts = reader.kind_counts(&[source.into()], &rule.kinds()).await?;
    Ok((counts.pop().unwrap_or_default(), as_of))
}

/// Finds out what to revoke, in the store: the cache may not have counted it yet.
#[derive(Clone)]
pub struct RevocationQuery {
    rule: StatusRule,
    reader: Arc<dyn SourceReader>,
    clock: Arc<dyn Clock>,
}

impl RevocationQuery {
    /// `rule` must equal that of the processors.
    #[must_use]
    pub fn new(rule: StatusRule, reader: Arc<dyn SourceReader>, clock: Arc<dyn Clock>) -> Self {
        Self { rule, reader, clock }
    }

    /// The kind whose events can make a status negative.
    #[must_use]
    pub fn negative_kind(&self) -> &str {
        &self.rule.negative_when.kind
    }

    /// What takes back the negative status of `source`; `None` if it is not negative.
    ///
    /// # Errors
    /// When `source` is empty or too long, or the store does not answer.
    pub async fn of(&self, source: &str) -> Result<AsOf<Option<Revocation>>, SourceError> {
        validate_source(source)?;
        let (kinds, as_of) = kinds_of(source, &self.rule, &*self.reader).await?;
        Ok(AsOf::new(self.rule.revocation(&kinds), as_of, self.clock.now()))
    }
}
