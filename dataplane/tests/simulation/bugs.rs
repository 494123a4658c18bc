//! Guarantees of the ports, broken one at a time. The simulation must notice each.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The cache applies a flush regardless of its positions: a retry after a lost answer counts twice.
    CacheIgnoresPositions,
    /// A flush that was stopped half-way leaves a cache that readers trust.
    IncompleteCacheTrusted,
    /// An installation during which the cache was killed leaves one that readers trust.
    IncompleteInstallTrusted,
    /// A rebuild reads the store before the ends of the log.
    SnapshotBeforeEnds,
    /// Replayed events get another writer, so they are not recognised as counted.
    ReplayUnderNewWriter,
    /// Publishing reports success after only a part was appended.
    PublishedTooEarly,
    /// A session starts from the offsets committed to the log instead of the projection's.
    CommittedOffsetsUsed,
    /// Events are published in reverse.
    PublishedOutOfOrder,
    /// A batch is acknowledged that is not committed.
    AcknowledgedTooEarly,
    /// The watermark ignores what is in the outbox.
    WatermarkIgnoresOutbox,
    /// A retried id is stored, and counted, again.
    IdsNotUnique,
    /// The views apply a flush regardless of their positions.
    ViewsIgnorePositions,
    /// A checkpoint moves the positions without all of its segments.
    SegmentLost,
    /// A merge does not notice that another processor has merged the same segments.
    MergedTwice,
    /// The audit of the views believes that the segments hold what checkpoints added.
    SegmentsNotSummed,
    /// The audit of the views reads no segment.
    SegmentsNotAudited,
    /// A status that crosses a threshold is neither held nor dropped.
    CrossingMissed,
    /// Cached statuses are dropped only after the checkpoint that changes them.
    HoldNotTaken,
    /// Servers cache what they read while a checkpoint holds it. It is dropped after the checkpoint.
    FilledWhileHeld,
    /// Statuses stay although they do not meet the conditions of a hold.
    ConditionsNotCompared,
    /// A hold ends before its checkpoint takes effect.
    ReleasedBeforeCommit,
    /// A processor that cannot reach the cache does not wait until servers do not use it any more.
    LeaseNotAwaited,
    /// A server caches statuses that it read before they changed.
    OldStatusesCached,
    /// A processor counts more events before it holds a node than a cached status can take.
    HeldTooRarely,
    /// A processor uses the statuses that another one cached, which may have counted events that this one does not know of.
    EpochNotBegun,
    /// The leases are renewed in whatever epoch the cache is, also if it went back to an earlier one.
    EpochsNotCompared,
    /// Events that were counted are not looked for in the store.
    StoreNotCompared,
    /// A restored store issues the same writer ids again.
    WriterIdsReused,
    /// A restored store takes batches that do not follow the last one it has.
    GapsCommitted,
    /// A lane deletes what it has published only once, so that a restored store keeps it in the outbox.
    ForgottenOnce,
    /// A log that ends before the positions is taken for the same one.
    LogEndsNotCompared,
    /// The records before the positions are not read.
    RecordsNotCompared,
    /// A day is dropped too early: its ids are still committed.
    DroppedIdsCommitted,
    /// Days are dropped without what they had contributed to the views.
    BaseForgotten,
}

impl Bug {
    pub const ALL: [Self; 34] = [
        Self::CacheIgnoresPositions,
        Self::IncompleteCacheTrusted,
        Self::IncompleteInstallTrusted,
        Self::SnapshotBeforeEnds,
        Self::ReplayUnderNewWriter,
        Self::PublishedTooEarly,
        Self::CommittedOffsetsUsed,
        Self::PublishedOutOfOrder,
        Self::AcknowledgedTooEarly,
        Self::WatermarkIgnoresOutbox,
        Self::IdsNotUnique,
        Self::ViewsIgnorePositions,
        Self::SegmentLost,
        Self::MergedTwice,
        Self::SegmentsNotSummed,
        Self::SegmentsNotAudited,
        Self::CrossingMissed,
        Self::HoldNotTaken,
        Self::FilledWhileHeld,
        Self::ConditionsNotCompared,
        Self::ReleasedBeforeCommit,
        Self::LeaseNotAwaited,
        Self::OldStatusesCached,
        Self::HeldTooRarely,
        Self::EpochNotBegun,
        Self::EpochsNotCompared,
        Self::StoreNotCompared,
        Self::WriterIdsReused,
        Self::GapsCommitted,
        Self::ForgottenOnce,
        Self::LogEndsNotCompared,
        Self::RecordsNotCompared,
        Self::DroppedIdsCommitted,
        Self::BaseForgotten,
    ];
}
