//! What happened in schedules.

/// What happened in a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub events: u64,
    pub refused: u64,
    pub replayed: u64,
    pub rebuilds: u64,
    pub stale: u64,
    pub fenced: u64,
    pub relayed: u64,
    pub crashes: u64,
    /// Times that the store was restored to an earlier time.
    pub restores: u64,
    /// Times that the counters were found ahead of the store.
    pub rollbacks: u64,
    /// Events in the log that the store did not have.
    pub phantoms: u64,
    /// Times that the topic was created again.
    pub recreations: u64,
    /// Of these, times that it had grown past the positions before a processor ran.
    pub outgrown: u64,
    /// Times that a projection was found to be of another topic.
    pub other_logs: u64,
    /// Schedules without a result, because nothing showed that the topic was another one.
    pub unnoticed: u64,
    /// Times that the cache of statuses went back within its epoch.
    pub old_statuses: u64,
    /// Times that it went back to an earlier one.
    pub earlier_epochs: u64,
    /// Cached statuses that were compared with the rows in the end.
    pub statuses: u64,
    /// Segments that were edited, and repaired.
    pub edits: u64,
    /// Events whose rows were dropped.
    pub dropped: u64,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.refused += other.refused;
        self.replayed += other.replayed;
        self.rebuilds += other.rebuilds;
        self.stale += other.stale;
        self.fenced += other.fenced;
        self.relayed += other.relayed;
        self.crashes += other.crashes;
        self.restores += other.restores;
        self.rollbacks += other.rollbacks;
        self.phantoms += other.phantoms;
        self.recreations += other.recreations;
        self.outgrown += other.outgrown;
        self.other_logs += other.other_logs;
        self.unnoticed += other.unnoticed;
        self.old_statuses += other.old_statuses;
        self.earlier_epochs += other.earlier_epochs;
        self.statuses += other.statuses;
        self.edits += other.edits;
        self.dropped += other.dropped;
    }
}
