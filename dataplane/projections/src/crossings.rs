//! Which cached statuses may change with some events.
//!
//! A cached status takes the margin of a threshold before it changes ([`StatusRule::is_near`]). So it is enough to count the events of some
//! sources together, and to hold their node for each [`Threshold::hold_interval`] of them. The more sources are counted together, the more
//! often that happens: the sources of a node are counted in up to 32 parts.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;

use ping_core::{StatusRule, Threshold};
use ping_ports::{NodeHold, Unless};
use ping_segments::{Changes, Node};

/// A node has at most `2^LEVELS` parts.
const LEVELS: u32 = 5;
/// And all nodes together have at most `2^DEPTH` parts, which limits the memory of the counts to some 12 MiB per threshold.
const DEPTH: u32 = 21;
/// With more conditions, the statuses of a node are dropped.
const MAX_CONDITIONS: usize = 16;

/// What an event means for the statuses that are cached.
#[derive(Clone, Copy, Debug)]
enum Effect {
    None,
    /// Those of a part may change after this many events.
    Interval(u32),
    /// That of its source may change, unless it meets this condition.
    Change(fn(Box<str>) -> Unless),
    /// That of its source changes.
    Revocation,
}

/// Events per part of a node, since its statuses were dropped last.
type PartCounts = HashMap<Node, Box<[u32]>>;

/// When the statuses of a node stay.
#[derive(Debug)]
enum Stay {
    /// If all of these are met.
    If(BTreeSet<Unless>),
    Never,
}

/// The statuses that events may change.
#[derive(Clone, Debug, Default)]
pub(super) struct Crossings {
    /// The nodes whose statuses may change: a source of theirs may cross a threshold.
    pub(super) nodes: Vec<NodeHold>,
    /// Whether any of the events is of a kind that a status depends on.
    pub(super) are_counted: bool,
}

/// Counts the events of the negative and of the positive kind.
#[derive(Debug, Default)]
pub(super) struct CrossingCounts(Mutex<[PartCounts; 2]>);

impl CrossingCounts {
    /// Counts the events in `changes` per part of a node at `depth`.
    pub(super) fn count(&self, rule: &StatusRule, depth: u32, changes: &Changes) -> Crossings {
        let effects: Vec<_> = changes.kinds().into_iter().map(|kind| effects(rule, kind)).collect();
        let levels = DEPTH.saturating_sub(depth).clamp(1, LEVELS);
        let (mut counts, mut nodes, mut are_counted) = (self.0.lock(), BTreeMap::new(), false);
        for (source, kind) in changes.events() {
            let effects = effects[kind];
            if matches!(effects, [Effect::None, Effect::None]) {
                continue;
            }
            are_counted = true;
            let (node, part) = Node::with_part(source, depth, levels);
            let mut drops = false;
            for (effect, counts) in effects.into_iter().zip(&mut *counts) {
                drops |= match effect {
                    Effect::None => false,
                    Effect::Interval(interval) => {
                        let parts = counts.entry(node).or_insert_with(|| vec![0; 1 << levels].into());
                        parts[part] += 1;
                        parts[part] >= interval
                    }
                    Effect::Change(unless) => !nodes.entry(node).or_insert_with(Stay::new).only(unless(source.into())),
                    Effect::Revocation => true,
                };
            }
            if drops {
                nodes.insert(node, Stay::Never);
                // What is cached later has all events up to here.
                counts.iter_mut().for_each(|counts| drop(counts.remove(&node)));
            }
        }
        let hold = |(node, stay): (_, Stay)| NodeHold { node, unless: stay.conditions() };
        Crossings { nodes: nodes.into_iter().map(hold).collect(), are_counted }
    }
}

impl Stay {
    fn new() -> Self {
        Self::If(BTreeSet::new())
    }

    /// Adds a condition. False if there are too many.
    fn only(&mut self, condition: Unless) -> bool {
        match self {
            Self::If(conditions) => {
                conditions.insert(condition);
                conditions.len() <= MAX_CONDITIONS
            }
            Self::Never => true,
        }
    }

    fn conditions(self) -> Vec<Unless> {
        match self {
            Self::If(conditions) => conditions.into_iter().collect(),
            Self::Never => Vec::new(),
        }
    }
}

/// What an event of `kind` means for the negative and for the positive threshold.
fn effects(rule: &StatusRule, kind: &str) -> [Effect; 2] {
    let effect = |threshold: &Threshold, unless| match threshold.hold_interval() {
        _ if *threshold.kind != *kind => Effect::None,
        1 => Effect::Change(unless),
        // A threshold is at most 1,000,000,000.
        interval => Effect::Interval(interval as u32),
    };
    match rule.is_revocation(kind) {
        true => [Effect::Revocation, Effect::None],
        false => [effect(&rule.negative_when, Unless::Negative), effect(&rule.positive_when, Unless::Decided)],
    }
}
