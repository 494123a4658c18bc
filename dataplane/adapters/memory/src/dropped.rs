//! What the store keeps of events that it dropped.

use std::collections::BTreeMap;

use ping_core::{Minute, SourceCounts, id_day};
use ping_ports::{DroppedEvents, EventCutoff};
use ping_segments::{FormatError, Place, Segment, merge};
use uuid::Uuid;

/// What remains of the events that were dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped {
    pub(super) cutoff: EventCutoff,
    /// Whether their ids are committed again; see [`MemoryStore::commit_dropped_ids`].
    pub(super) are_committed: bool,
    /// Per minute, all of them, and those with a source.
    pub(super) minutes: BTreeMap<Minute, (i64, i64)>,
    /// What they had contributed to the views: a rebuild begins with it.
    pub(super) base: BTreeMap<Place, Segment>,
    /// The same, counted one by one.
    pub(super) counts: SourceCounts,
}

impl Dropped {
    pub(super) fn events(&self) -> DroppedEvents {
        DroppedEvents {
            count: self.minutes.values().map(|(count, _)| count).sum(),
            until: self.minutes.keys().last().map_or(0, |last| Minute(last.0 + 1).start()),
        }
    }

    /// Whether an event with this id was dropped, or will be.
    pub(super) fn refuses(&self, id: Uuid) -> bool {
        self.cutoff.first_day.is_some_and(|first| id_day(id).is_some_and(|day| day < first))
    }

    /// Adds segments to the base. Each place then has one.
    pub(super) fn add(&mut self, mut segments: Vec<Segment>) -> Result<(), FormatError> {
        while let Some(segment) = segments.pop() {
            match self.base.remove(&segment.place) {
                Some(held) => segments.extend(merge(segment.place, [&*held.data, &*segment.data])?),
                None => drop(self.base.insert(segment.place, segment)),
            }
        }
        Ok(())
    }
}
