//! Watermarks of `ports.rs`, broken one at a time. A simulation that does not notice is worth nothing.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The cache adds a delta whatever its positions are: a retry after a lost reply counts twice.
    CacheIgnoresPositions,
    /// A rebuild reads the store before the ends of the log.
    SnapshotBeforeEnds,
    /// Replayed events get another writer, so nobody knows that they were counted.
    ReplayUnderNewNumbers,
    /// Publishing is reported done when only a part was.
    PublishedTooEarly,
    /// A processor goes on from the offsets committed to the log instead of the cache's.
    CommittedOffsetsBelieved,
    /// Events are published in reverse.
    PublishedOutOfOrder,
    /// A batch is acknowledged that is not in the store.
    AcknowledgedTooEarly,
    /// `as_of` forgets what waits in the outbox.
    OutboxNotInAsOf,
    /// A retried id is stored, and counted, again.
    IdsNotUnique,
    /// The views add a delta whatever their positions are.
    ViewsIgnorePositions,
}

impl Bug {
    pub const ALL: [Self; 10] = [
        Self::CacheIgnoresPositions,
        Self::SnapshotBeforeEnds,
        Self::ReplayUnderNewNumbers,
        Self::PublishedTooEarly,
        Self::CommittedOffsetsBelieved,
        Self::PublishedOutOfOrder,
        Self::AcknowledgedTooEarly,
        Self::OutboxNotInAsOf,
        Self::IdsNotUnique,
        Self::ViewsIgnorePositions,
    ];
}
