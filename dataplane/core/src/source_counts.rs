//! What a batch of events adds to the views per source.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Day, Millis, Minute, Span, Window};

/// What some events add to the views. Events without a source are of nobody and add nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Per source and window.
    pub windows: BTreeMap<(Box<str>, Window), Span>,
    /// Per source and day.
    pub days: BTreeMap<(Box<str>, Day), i64>,
    /// Per source and kind.
    pub kinds: BTreeMap<(Box<str>, Box<str>), Span>,
    /// Who was there in which minute.
    pub minutes: BTreeSet<(Minute, Box<str>)>,
}

impl SourceCounts {
    /// Adds one event; false when it is of nobody.
    pub fn add(&mut self, source: &str, kind: &str, at: Millis) -> bool {
        if source.is_empty() {
            return false;
        }
        let span = Span::of(at);
        let merge = |held: &mut Span| *held = held.merge(span);
        self.windows.entry((source.into(), Window::of(at))).and_modify(merge).or_insert(span);
        self.kinds.entry((source.into(), kind.into())).and_modify(merge).or_insert(span);
        *self.days.entry((source.into(), Day::of(at))).or_insert(0) += 1;
        self.minutes.insert((Minute::of(at), source.into()));
        true
    }

    /// Adds what others added up.
    pub fn merge(&mut self, other: &Self) {
        let merge = |held: &mut Span, span: &Span| *held = held.merge(*span);
        for (key, span) in &other.windows {
            self.windows.entry(key.clone()).and_modify(|held| merge(held, span)).or_insert(*span);
        }
        for (key, span) in &other.kinds {
            self.kinds.entry(key.clone()).and_modify(|held| merge(held, span)).or_insert(*span);
        }
        for (key, count) in &other.days {
            *self.days.entry(key.clone()).or_insert(0) += count;
        }
        self.minutes.extend(other.minutes.iter().cloned());
    }
}
