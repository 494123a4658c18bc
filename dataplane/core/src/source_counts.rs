//! What a batch of events adds to the views per source.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    span::Span,
    time::{Day, Millis, Minute, Window},
};

/// What a batch of events adds to the views. Events without a source are not attributed and add nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Per source and window.
    pub windows: BTreeMap<(Box<str>, Window), Span>,
    /// Per source and day.
    pub days: BTreeMap<(Box<str>, Day), i64>,
    /// Per source and kind.
    pub kinds: BTreeMap<(Box<str>, Box<str>), Span>,
    /// The unique sources per minute.
    pub minutes: BTreeSet<(Minute, Box<str>)>,
}

impl SourceCounts {
    /// Adds one event that happened at `timestamp_ms`. False when it has no source.
    pub fn add(&mut self, source: &str, kind: &str, timestamp_ms: Millis) -> bool {
        if source.is_empty() {
            return false;
        }
        let span = Span::of(timestamp_ms);
        let merge = |held: &mut Span| *held = held.merge(span);
        self.windows.entry((source.into(), Window::of(timestamp_ms))).and_modify(merge).or_insert(span);
        self.kinds.entry((source.into(), kind.into())).and_modify(merge).or_insert(span);
        *self.days.entry((source.into(), Day::of(timestamp_ms))).or_insert(0) += 1;
        self.minutes.insert((Minute::of(timestamp_ms), source.into()));
        true
    }
}
