//! What a processor knows about the cache of statuses: which checkpoints hold nodes, and until when the leases that it renewed are in
//! force. Pure: the time is an argument.

use std::collections::BTreeMap;

use tokio::time::Instant;
use uuid::Uuid;

use ping_core::{Generation, Millis, Offset, Partition};
use ping_ports::{Advance, CacheMillis, Epoch, NodeHold, Renewal, StatusTimes};
use ping_segments::Node;

/// The hold of a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    /// The generation that the checkpoint applies to.
    pub(super) generation: Generation,
    /// The offsets that it applies to. Once one of them is another, it never takes effect.
    pub(super) from: BTreeMap<Partition, Offset>,
    /// The nodes whose statuses it may change.
    pub(super) nodes: Vec<NodeHold>,
    /// When it was last known to run.
    pub(super) seen: Instant,
    /// It has taken effect or never will.
    pub(super) is_over: bool,
}

/// What a processor knows about the cache of statuses.
#[derive(Debug)]
pub(super) struct StatusState {
    times: StatusTimes,
    /// The cache may hold statuses that are wrong: begin an epoch before anything else.
    stale: bool,
    /// The cache lost what was written before, perhaps also the holds of other processors.
    lost: bool,
    /// The latest epoch that was seen; 0 if none was.
    epoch: Epoch,
    /// A rebuild that runs.
    rebuild: Option<Uuid>,
    /// Holds that are not released yet.
    holds: BTreeMap<Uuid, Hold>,
    /// Until when this session has renewed the lease of each of its partitions.
    leases: BTreeMap<Partition, CacheMillis>,
    /// How many partitions the log has; 0 while that is not known.
    partitions: u32,
    /// A watermark that the cache does not have yet.
    as_of: Option<Millis>,
    /// The answer to the last renewal, and when it was there.
    answered: Option<(CacheMillis, Instant)>,
    /// From then on, no lease that this session or an earlier one has renewed is in force.
    lapses: Instant,
}

impl StatusState {
    pub(super) fn new(times: StatusTimes, now: Instant) -> Self {
        Self {
            times,
            stale: true,
            lost: false,
            epoch: 0,
            rebuild: None,
            holds: BTreeMap::new(),
            leases: BTreeMap::new(),
            partitions: 0,
            as_of: None,
            answered: None,
            lapses: now + times.lease,
        }
    }

    /// A session begins. Another processor may just have renewed the leases of its partitions.
    pub(super) fn begin_session(&mut self, now: Instant) {
        self.stale = true;
        self.rebuild = None;
        self.leases.clear();
        self.as_of = None;
        self.lapses = self.lapses.max(now + self.times.lease);
    }

    /// A checkpoint begins. Returns the id of its hold.
    pub(super) fn begin(&mut self, advance: &Advance, nodes: Vec<NodeHold>, now: Instant) -> Uuid {
        let (id, generation, from) = (Uuid::now_v7(), advance.generation.clone(), advance.from.clone());
        self.holds.insert(id, Hold { generation, from, nodes, seen: now, is_over: false });
        id
    }

    /// The checkpoint still runs.
    pub(super) fn see(&mut self, id: Uuid, now: Instant) {
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.seen = now;
        }
    }

    /// The checkpoint has taken effect or never will.
    pub(super) fn end(&mut self, id: Uuid) {
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.is_over = true;
        }
    }

    /// The projection is at `offsets` of `generation`: checkpoints that apply to others never take effect.
    pub(super) fn settle(&mut self, generation: &Generation, offsets: &BTreeMap<Partition, Offset>) {
        for hold in self.holds.values_mut() {
            let has_moved = |(partition, from)| offsets.get(partition).is_some_and(|at| at != from);
            hold.is_over |= hold.generation != *generation || hold.from.iter().any(has_moved);
        }
    }

    /// Checkpoints that were lost for the time of a hold never take effect. After twice that time, the cache needs no release any more.
    pub(super) fn expire(&mut self, now: Instant) {
        let lasts = self.times.hold;
        self.holds.retain(|_, hold| now < hold.seen + 2 * lasts);
        for hold in self.holds.values_mut() {
            hold.is_over |= now >= hold.seen + lasts;
        }
    }

    /// The holds of checkpoints that may still take effect.
    pub(super) fn pending(&self) -> Vec<(Uuid, Vec<NodeHold>)> {
        let holds = self.holds.iter().filter(|(_, hold)| !hold.is_over);
        holds.map(|(id, hold)| (*id, hold.nodes.clone())).collect()
    }

    /// Holds to release.
    pub(super) fn releasable(&self) -> Vec<(Uuid, Vec<Node>)> {
        let holds = self.holds.iter().filter(|(_, hold)| hold.is_over);
        holds.map(|(id, hold)| (*id, hold.nodes.iter().map(|hold| hold.node).collect())).collect()
    }

    pub(super) fn released(&mut self, id: Uuid) {
        self.holds.remove(&id);
    }

    /// A rebuild begins.
    pub(super) fn begin_rebuild(&mut self, id: Uuid) {
        self.stale = true;
        self.rebuild = Some(id);
    }

    /// It has taken effect or never will.
    pub(super) fn end_rebuild(&mut self) {
        self.rebuild = None;
    }

    pub(super) fn rebuild(&self) -> Option<Uuid> {
        self.rebuild
    }

    /// A checkpoint has taken effect: its partitions belong to this session.
    pub(super) fn note(&mut self, advance: &Advance) {
        for partition in advance.from.keys() {
            self.leases.entry(*partition).or_insert(0);
        }
        if advance.as_of.is_some() {
            self.as_of = advance.as_of;
            self.partitions = advance.partitions;
        }
    }

    /// The next renewal. It is in force from the last answer on.
    pub(super) fn renewal(&mut self) -> Renewal {
        if let Some((_, answered)) = self.answered {
            self.lapses = self.lapses.max(answered + self.times.lease);
        }
        Renewal {
            epoch: self.epoch,
            on: self.leases.clone(),
            partitions: self.partitions,
            from: self.answered.map(|(time, _)| time),
            as_of: self.as_of,
        }
    }

    /// The cache answered a renewal at `time` by its clock.
    pub(super) fn renewed(&mut self, renewal: &Renewal, time: CacheMillis, now: Instant) {
        if let Some(from) = renewal.from {
            let lease = CacheMillis::try_from(self.times.lease.as_millis()).unwrap_or(CacheMillis::MAX);
            self.leases.values_mut().for_each(|until| *until = from.saturating_add(lease).max(*until));
        }
        self.as_of = None;
        self.answered = Some((time, now));
    }

    /// The cache lacks what was written before.
    pub(super) fn lose(&mut self) {
        (self.stale, self.lost) = (true, true);
        self.leases.values_mut().for_each(|until| *until = 0);
        self.answered = None;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether an epoch must begin before the cache is used. Holds may have expired when the leases have.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.stale || now >= self.lapses
    }

    /// The latest epoch that was seen.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn see_epoch(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
    }

    /// An epoch has begun.
    pub(super) fn epoch_begun(&mut self, now: Instant) {
        (self.stale, self.lost) = (false, false);
        self.lapses = self.lapses.max(now + self.times.lease);
    }

    /// When the cache is no longer used if nothing reaches it.
    pub(super) fn lapses(&self) -> Instant {
        self.lapses
    }

    /// What is cached will be wrong: an epoch must begin before the leases are renewed.
    pub(super) fn give_up(&mut self) {
        self.stale = true;
    }
}
