//! What the store holds: events with everything that is counted from them, and the views.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::dropped::Dropped;
use ping_core::{Day, Event, LastSeqs, Millis, Minute, Nanos, Positions, Seq, SourceCounts, Watermarks, WriterId};
use ping_ports::{Name, OutboxRow, PeriodSums, ViewAuditState};
use ping_segments::{AuditedSegment, Family, Place, Segment, StoredSegment};

#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) last_seq: Seq,
    pub(super) open: bool,
    pub(super) lease_until: Millis,
    /// Claimed by a relay until this time.
    pub(super) lent_until: Millis,
    /// When it last changed.
    pub(super) touched: Millis,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) views: Option<Views>,
    pub(super) view_audit: ViewAuditState,
    /// When the last change of an incarnation was last noted.
    pub(super) change_noted: Millis,
    pub(super) events: HashMap<Uuid, Event>,
    /// Events per millisecond.
    pub(super) times: BTreeMap<Millis, i64>,
    /// Events per minute, and when that count last changed.
    pub(super) minutes: BTreeMap<Minute, (i64, Millis)>,
    pub(super) writers: BTreeMap<WriterId, Writer>,
    /// The last numbers of writers that were compacted.
    pub(super) compacted: BTreeMap<WriterId, Seq>,
    pub(super) total: i64,
    pub(super) outbox: BTreeMap<(WriterId, Seq), OutboxRow>,
    pub(super) next_writer: i64,
    pub(super) quotas: Quotas,
    pub(super) dropped: Dropped,
}

impl State {
    pub(super) fn last_seqs(&self, writers: impl Iterator<Item = WriterId> + Clone) -> LastSeqs {
        let live = |writer| Some((writer, self.writers.get(&writer)?.last_seq));
        let compacted = |writer| Some((writer, *self.compacted.get(&writer)?));
        LastSeqs {
            live: writers.clone().filter_map(live).collect(),
            compacted: writers.filter_map(compacted).collect(),
        }
    }

    /// What the views should hold: all events, counted one by one, also those that were dropped.
    pub(super) fn recounted_views(&self) -> SourceCounts {
        let mut counts = self.dropped.counts.clone();
        for event in self.events.values() {
            counts.add(&event.source, &event.kind, event.timestamp_ms);
        }
        counts
    }
}

/// The views per source and their positions.
#[derive(Clone, Debug)]
pub(super) struct Views {
    pub(super) positions: Positions,
    pub(super) unique_sources: bool,
    pub(super) segments: BTreeMap<i64, AuditedSegment>,
    /// What checkpoints and the rebuild have added.
    pub(super) added: PeriodSums,
    /// The number of the next segment.
    pub(super) next_segment: i64,
    pub(super) watermarks: Watermarks,
}

impl Views {
    /// Adds the segments of a checkpoint.
    pub(super) fn add(&mut self, segments: &[Segment]) {
        for segment in segments.iter().filter(|segment| segment.place.family != Family::Minutes) {
            *self.added.entry((segment.place.family, segment.place.period)).or_insert(0) += segment.events;
        }
        self.insert(segments);
    }

    pub(super) fn insert(&mut self, segments: &[Segment]) {
        for segment in segments {
            let (id, place, data) = (self.next_segment, segment.place, segment.data.clone());
            let (events, digest) = (segment.events, segment.digest());
            self.segments.insert(id, AuditedSegment { segment: StoredSegment { id, place, data }, events, digest });
            self.next_segment += 1;
        }
    }

    pub(super) fn select(&self, wanted: impl Fn(Place) -> bool) -> Vec<StoredSegment> {
        self.segments
            .values()
            .map(|audited| &audited.segment)
            .filter(|segment| wanted(segment.place))
            .cloned()
            .collect()
    }
}

/// What servers share of the quotas.
#[derive(Clone, Debug, Default)]
pub(super) struct Quotas {
    /// When each bucket will be full, in nanoseconds since the Unix epoch.
    pub(super) buckets: HashMap<Arc<str>, Nanos>,
    pub(super) names: AdmittedNames,
}

/// The names that were admitted, by day and budget.
pub(super) type AdmittedNames = BTreeMap<Day, HashMap<Box<str>, HashSet<Name>>>;
