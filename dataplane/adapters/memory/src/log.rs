//! A log with partitions, offsets and groups of consumers, in process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use ping_core::{Offset, Partition};
use ping_ports::{
    Bounds, ConsumerEvent, DeadLetter, LogBounds, LogConsumer, LogError, LogEvent, LogProducer, Malformed, OutboxRow,
    Record,
};

/// Records handed out at once.
const CHUNK: usize = 1_000;

/// What a record says, or why it can't be counted.
type Body = Result<LogEvent, (Malformed, Vec<u8>)>;

#[derive(Debug, Default)]
struct Lane {
    low: Offset,
    records: VecDeque<Body>,
}

impl Lane {
    fn end(&self) -> Offset {
        self.low + i64::try_from(self.records.len()).unwrap_or(i64::MAX)
    }
}

#[derive(Debug)]
struct Member {
    group: &'static str,
    assigned: Vec<Partition>,
    /// The member has not heard of its assignment yet.
    told: bool,
}

#[derive(Debug, Default)]
struct State {
    partitions: Vec<Lane>,
    members: BTreeMap<u64, Member>,
    next_member: u64,
    rotation: usize,
    /// How far each group is that ever had a member.
    committed: BTreeMap<&'static str, BTreeMap<Partition, Offset>>,
    dead: Vec<DeadLetter>,
}

impl State {
    /// Deals the partitions out to the members of every group, round robin, and has everybody told.
    fn rebalance(&mut self) {
        let groups: Vec<_> = self.committed.keys().copied().collect();
        for group in groups {
            self.rebalance_group(group);
        }
    }

    fn rebalance_group(&mut self, group: &'static str) {
        let count = self.members.values().filter(|member| member.group == group).count().max(1);
        let partitions = self.partitions.len();
        let members = self.members.values_mut().filter(|member| member.group == group);
        for (place, member) in members.enumerate() {
            let ours = (0..partitions).filter(|partition| (partition + self.rotation) % count == place);
            member.assigned = ours.filter_map(|partition| Partition::try_from(partition).ok()).collect();
            member.told = false;
        }
    }

    fn lane(&self, partition: Partition) -> Option<&Lane> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}

/// The log itself; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        let log = Self::default();
        log.state.lock().partitions.resize_with(partitions.max(1) as usize, Lane::default);
        log
    }

    /// Joins `group`; leaves it when dropped.
    #[must_use]
    pub fn subscribe(&self, group: &'static str) -> MemoryConsumer {
        let mut state = self.state.lock();
        state.next_member += 1;
        let member = state.next_member;
        state.members.insert(member, Member { group, assigned: Vec::new(), told: false });
        state.committed.entry(group).or_default();
        state.rebalance_group(group);
        drop(state);
        self.changed.notify_waiters();
        MemoryConsumer { log: self.clone(), group, member, next: BTreeMap::new() }
    }

    /// Appends one record.
    pub fn append(&self, partition: Partition, body: Result<LogEvent, (Malformed, Vec<u8>)>) {
        let mut state = self.state.lock();
        let place = usize::try_from(partition).unwrap_or_default() % state.partitions.len().max(1);
        state.partitions[place].records.push_back(body);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Adds partitions up to `partitions` and deals them out anew.
    pub fn grow(&self, partitions: u32) {
        let mut state = self.state.lock();
        let count = state.partitions.len().max(partitions as usize);
        state.partitions.resize_with(count, Lane::default);
        state.rebalance();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Forgets records below `offset`: retention.
    pub fn truncate(&self, partition: Partition, offset: Offset) {
        let mut state = self.state.lock();
        let place = usize::try_from(partition).unwrap_or_default();
        let Some(lane) = state.partitions.get_mut(place) else { return };
        while lane.low < offset && lane.records.pop_front().is_some() {
            lane.low += 1;
        }
    }

    /// Deals the partitions out anew, each to another member if there are several.
    pub fn rebalance(&self) {
        let mut state = self.state.lock();
        state.rotation += 1;
        state.rebalance();
        drop(state);
        self.changed.notify_waiters();
    }

    /// What was set aside.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state.lock().dead.clone()
    }
}

#[async_trait]
impl LogProducer for MemoryLog {
    async fn publish(&self, rows: Vec<OutboxRow>) -> Result<(), LogError> {
        for row in &rows {
            let writer = row.batch.writer;
            for (seq, partition, event) in row.records() {
                self.append(partition, Ok(LogEvent::of(writer, seq, event)));
            }
        }
        Ok(())
    }

    async fn partitions(&self) -> Result<u32, LogError> {
        Ok(u32::try_from(self.state.lock().partitions.len()).unwrap_or(u32::MAX))
    }

    async fn dead_letter(&self, letters: Vec<DeadLetter>) -> Result<(), LogError> {
        self.state.lock().dead.extend(letters);
        Ok(())
    }
}

#[async_trait]
impl LogBounds for MemoryLog {
    async fn bounds(&self) -> Result<BTreeMap<Partition, Bounds>, LogError> {
        let state = self.state.lock();
        let bounds = |lane: &Lane| Bounds { low: lane.low, end: lane.end() };
        Ok((0..).zip(state.partitions.iter().map(bounds)).collect())
    }
}

/// A member of the group.
#[derive(Debug)]
pub struct MemoryConsumer {
    log: MemoryLog,
    group: &'static str,
    member: u64,
    next: BTreeMap<Partition, Offset>,
}

impl MemoryConsumer {
    /// What there is to know now, if anything.
    fn poll(&mut self) -> Result<Option<ConsumerEvent>, LogError> {
        let mut state = self.log.state.lock();
        let Some(member) = state.members.get_mut(&self.member) else { return Ok(None) };
        if !member.told {
            member.told = true;
            self.next.clear();
            let assigned = member.assigned.clone();
            let event = if assigned.is_empty() { ConsumerEvent::Revoked } else { ConsumerEvent::Assigned(assigned) };
            return Ok(Some(event));
        }
        let mut records = Vec::new();
        for (partition, next) in &mut self.next {
            let Some(lane) = state.lane(*partition) else { continue };
            let skip = usize::try_from(*next - lane.low).map_err(|_| {
                LogError(format!("offset {next} of partition {partition} is below {}", lane.low).into())
            })?;
            for body in lane.records.iter().skip(skip).take(CHUNK - records.len().min(CHUNK)) {
                records.push(Record { partition: *partition, offset: *next, body: body.clone() });
                *next += 1;
            }
        }
        Ok((!records.is_empty()).then_some(ConsumerEvent::Records(records)))
    }
}

#[async_trait]
impl LogConsumer for MemoryConsumer {
    async fn next(&mut self) -> Result<ConsumerEvent, LogError> {
        let changed = Arc::clone(&self.log.changed);
        loop {
            let notified = changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(event) = self.poll()? {
                return Ok(event);
            }
            notified.await;
        }
    }

    async fn start(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), LogError> {
        self.next = offsets.clone();
        Ok(())
    }

    /// What every group has counted can go.
    fn commit(&self, offsets: &BTreeMap<Partition, Offset>) {
        for (partition, offset) in offsets {
            let behind = {
                let mut state = self.log.state.lock();
                state.committed.entry(self.group).or_default().insert(*partition, *offset);
                state.committed.values().map(|of| of.get(partition).copied().unwrap_or(0)).min()
            };
            self.log.truncate(*partition, behind.unwrap_or(0));
        }
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let mut state = self.log.state.lock();
        state.members.remove(&self.member);
        state.rebalance_group(self.group);
        drop(state);
        self.log.changed.notify_waiters();
    }
}
