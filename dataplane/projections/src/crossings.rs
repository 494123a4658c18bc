//! Which cached statuses may change with some events.
//!
//! A cached status takes the margin of a threshold before it changes ([`StatusRule::is_near`]). So it is enough to count the events of all
//! sources that are cached together, and to hold their node for each [`Threshold::hold_interval`] of them.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

use ping_core::{StatusRule, Threshold};
use ping_segments::{Changes, Node};

/// What an event means for the statuses that are cached.
#[derive(Clone, Copy, Debug)]
enum Effect {
    None,
    /// They may change after this many events.
    Interval(u32),
    /// They may change.
    Change,
}

/// Events counted per node, for one threshold.
type NodeCounts = HashMap<Node, u32>;

/// The statuses that events may change.
#[derive(Clone, Debug, Default)]
pub(super) struct Crossings {
    /// The nodes whose statuses may change: a source of theirs may cross a threshold.
    pub(super) nodes: Vec<Node>,
    /// Whether any of the events is of a kind that a status depends on.
    pub(super) are_counted: bool,
}

/// Counts the events of the negative and of the positive kind, each modulo its interval.
#[derive(Debug, Default)]
pub(super) struct CrossingCounts(Mutex<[NodeCounts; 2]>);

impl CrossingCounts {
    /// Counts the events in `changes` per node at `depth`.
    pub(super) fn count(&self, rule: &StatusRule, depth: u32, changes: &Changes) -> Crossings {
        let effects: Vec<_> = changes.kinds().into_iter().map(|kind| effects(rule, kind)).collect();
        let (mut counts, mut nodes, mut are_counted) = (self.0.lock(), BTreeSet::new(), false);
        for (source, kind) in changes.events() {
            let effects = effects[kind];
            if matches!(effects, [Effect::None, Effect::None]) {
                continue;
            }
            are_counted = true;
            let node = Node::of(source, depth);
            for (effect, counts) in effects.into_iter().zip(&mut *counts) {
                if is_reached(effect, node, counts) {
                    nodes.insert(node);
                }
            }
        }
        Crossings { nodes: nodes.into_iter().collect(), are_counted }
    }
}

/// What an event of `kind` means for the negative and for the positive threshold.
fn effects(rule: &StatusRule, kind: &str) -> [Effect; 2] {
    let effect = |threshold: &Threshold| match threshold.hold_interval() {
        _ if *threshold.kind != *kind => Effect::None,
        1 => Effect::Change,
        // A threshold is at most 1,000,000,000.
        interval => Effect::Interval(interval as u32),
    };
    match rule.is_revocation(kind) {
        true => [Effect::Change, Effect::None],
        false => [effect(&rule.negative_when), effect(&rule.positive_when)],
    }
}

/// Counts an event of `node`. True if its statuses may change now.
fn is_reached(effect: Effect, node: Node, counts: &mut NodeCounts) -> bool {
    match effect {
        Effect::None => false,
        Effect::Change => true,
        Effect::Interval(interval) => {
            let count = counts.entry(node).or_insert(0);
            *count = (*count + 1) % interval;
            *count == 0
        }
    }
}
