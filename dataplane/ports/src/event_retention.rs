//! Retention of events: their rows are dropped day by day, and what was counted from them stays.

use async_trait::async_trait;
use ping_core::{Day, Millis, RetentionCutoffs};

use super::store::StoreError;

/// How far back a store knows its events one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCutoff {
    /// Store time.
    pub now: Millis,
    /// The first day whose ids are accepted; `None` if all are.
    pub first_day: Option<Day>,
    /// When `first_day` was last moved.
    pub moved_at: Millis,
    /// The start of the first day whose counts per millisecond are kept; 0 if all are.
    pub milliseconds_from: Millis,
}

/// Drops events by the day of their ids. Ids without a day are kept. Totals, rollups and views stay exact: the events that were dropped
/// stay in [`super::DroppedEvents`], and a rebuild of the views begins with what they had contributed.
#[async_trait]
pub trait EventRetention: Send + Sync {
    /// The cutoff.
    async fn event_cutoff(&self) -> Result<EventCutoff, StoreError>;

    /// Moves the cutoff to `first_day` at the time `now`. From then on, commits of ids of earlier days fail with
    /// [`super::CommitError::Expired`]. It never moves back.
    async fn move_cutoff(&self, first_day: Day, now: Millis) -> Result<(), StoreError>;

    /// Prepares the tables for the days that come, if there is a cutoff. Safe to repeat, also after a crash half-way.
    async fn prepare_days(&self, today: Day) -> Result<(), StoreError>;

    /// Drops the events and the counts per millisecond before the cutoff. Each day, or part of a day, is one atomic step. Returns how
    /// many events were dropped; `None` if another program is preparing the tables or dropping. `cutoffs` say what the views keep.
    async fn drop_expired(&self, cutoffs: RetentionCutoffs) -> Result<Option<u64>, StoreError>;
}
