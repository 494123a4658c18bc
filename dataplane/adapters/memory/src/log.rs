//! A log with partitions, offsets and consumer groups.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use ping_core::{Offset, Partition, partition_count, partition_number, seq_offset};
use ping_ports::{
    Bounds, ConsumerEvent, DeadContent, DeadLetter, DeadLetterReader, LetterPage, LetterPosition, LetterQuery,
    LogBounds, LogConsumer, LogError, LogEvent, LogProducer, Malformed, OutboxRow, Record, StoredLetter, TraceContext,
};

/// Records returned at once.
const MAX_RECORDS: usize = 1_000;

/// The content of a record, or why it cannot be counted.
type Body = Result<LogEvent, (Malformed, Vec<u8>)>;

#[derive(Clone, Debug)]
struct StoredRecord {
    body: Body,
    trace: Option<TraceContext>,
}

impl StoredRecord {
    fn at(&self, partition: Partition, offset: Offset) -> Record {
        Record { partition, offset, trace: self.trace.clone(), body: self.body.clone() }
    }
}

#[derive(Debug, Default)]
struct PartitionLog {
    low: Offset,
    records: VecDeque<StoredRecord>,
}

impl PartitionLog {
    fn end(&self) -> Offset {
        self.low + seq_offset(self.records.len())
    }
}

#[derive(Debug)]
struct Member {
    group: &'static str,
    assigned: Vec<Partition>,
    /// Whether the member knows its assignment.
    notified: bool,
}

#[derive(Debug, Default)]
struct State {
    partitions: Vec<PartitionLog>,
    members: BTreeMap<u64, Member>,
    next_member: u64,
    rotation: usize,
    /// Committed offsets of every group that ever had a member.
    committed: BTreeMap<&'static str, BTreeMap<Partition, Offset>>,
    dead: Vec<DeadLetter>,
}

impl State {
    /// Assigns the partitions to the members of every group, round robin.
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
            member.assigned = ours.map(|partition| partition_number(partition as u64)).collect();
            member.notified = false;
        }
    }

    fn partition(&self, partition: Partition) -> Option<&PartitionLog> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}

/// The log. Clones share it.
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
        log.state.lock().partitions.resize_with(partitions.max(1) as usize, PartitionLog::default);
        log
    }

    /// Joins `group`. The consumer leaves it when dropped.
    #[must_use]
    pub fn subscribe(&self, group: &'static str) -> MemoryConsumer {
        let mut state = self.state.lock();
        state.next_member += 1;
        let member = state.next_member;
        state.members.insert(member, Member { group, assigned: Vec::new(), notified: false });
        state.committed.entry(group).or_default();
        state.rebalance_group(group);
        drop(state);
        self.changed.notify_waiters();
        MemoryConsumer { log: self.clone(), group, member, next: BTreeMap::new() }
    }

    /// Appends one record. An outbox row of an earlier run may name a partition that this log does not have: it wraps around.
    pub fn append(&self, partition: Partition, body: Result<LogEvent, (Malformed, Vec<u8>)>) {
        self.append_record(partition, StoredRecord { body, trace: None });
    }

    fn append_record(&self, partition: Partition, record: StoredRecord) {
        let mut state = self.state.lock();
        let place = partition.unsigned_abs() as usize % state.partitions.len().max(1);
        state.partitions[place].records.push_back(record);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Adds partitions until there are `partitions`, and rebalances.
    pub fn grow(&self, partitions: u32) {
        let mut state = self.state.lock();
        let count = state.partitions.len().max(partitions as usize);
        state.partitions.resize_with(count, PartitionLog::default);
        state.rebalance();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Deletes records below `offset`, as retention does.
    pub fn truncate(&self, partition: Partition, offset: Offset) {
        let mut state = self.state.lock();
        let log = usize::try_from(partition).ok().and_then(|place| state.partitions.get_mut(place));
        let Some(log) = log else { return };
        while log.low < offset && log.records.pop_front().is_some() {
            log.low += 1;
        }
    }

    /// Deletes every record and every committed offset, and begins at offset 0 again, as a topic does that is deleted and created again.
    /// Consumers keep their offsets, and read nothing while the log ends before them.
    pub fn recreate(&self) {
        let mut state = self.state.lock();
        state.partitions.fill_with(PartitionLog::default);
        state.committed.values_mut().for_each(BTreeMap::clear);
    }

    /// Assigns each partition to another member, if there are several.
    pub fn rebalance(&self) {
        let mut state = self.state.lock();
        state.rotation += 1;
        state.rebalance();
        drop(state);
        self.changed.notify_waiters();
    }

    /// The records that could not be counted.
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
                let body = Ok(LogEvent::of(writer, seq, event));
                self.append_record(partition, StoredRecord { body, trace: row.trace.clone() });
            }
        }
        Ok(())
    }

    async fn partitions(&self) -> Result<u32, LogError> {
        Ok(partition_count(self.state.lock().partitions.len()))
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
        let bounds = |log: &PartitionLog| Bounds { low: log.low, end: log.end() };
        Ok((0..).zip(state.partitions.iter().map(bounds)).collect())
    }

    async fn records_at(&self, offsets: &BTreeMap<Partition, Offset>) -> Result<Vec<Record>, LogError> {
        let state = self.state.lock();
        let record = |(partition, offset): (&Partition, &Offset)| {
            let log = state.partition(*partition);
            let stored = log.and_then(|log| log.records.get(usize::try_from(*offset - log.low).ok()?));
            let stored =
                stored.ok_or_else(|| LogError(format!("partition {partition} has no offset {offset}").into()))?;
            Ok(stored.at(*partition, *offset))
        };
        offsets.iter().map(record).collect()
    }
}

#[async_trait]
impl DeadLetterReader for MemoryLog {
    async fn page(&self, query: LetterQuery) -> Result<LetterPage, LogError> {
        let from = query.from.map_or(0, |from| from.offset);
        let skipped = usize::try_from(from).map_err(|error| LogError(Box::new(error)))?;
        let mut page = LetterPage::default();
        for (next, letter) in (from + 1..).zip(self.state.lock().dead.iter().skip(skipped)) {
            page.letters.extend(Some(stored(letter)).filter(|letter| query.matches(letter)));
            if page.letters.len() >= query.limit {
                page.next = Some(LetterPosition { partition: 0, offset: next });
                break;
            }
        }
        Ok(page)
    }
}

/// The time is not noted: this log is empty after each start.
fn stored(letter: &DeadLetter) -> StoredLetter {
    StoredLetter {
        sent: None,
        reason: letter.content.reason(),
        place: format!("memory/{}/{}", letter.partition, letter.offset),
        content: match &letter.content {
            DeadContent::Malformed(_, value) => Err(value.clone()),
            DeadContent::Phantom(event) => Ok(event.clone()),
        },
    }
}

/// A member of a consumer group.
#[derive(Debug)]
pub struct MemoryConsumer {
    log: MemoryLog,
    group: &'static str,
    member: u64,
    next: BTreeMap<Partition, Offset>,
}

impl MemoryConsumer {
    /// The next event, if there is one now.
    fn poll(&mut self) -> Result<Option<ConsumerEvent>, LogError> {
        let mut state = self.log.state.lock();
        let Some(member) = state.members.get_mut(&self.member) else { return Ok(None) };
        if !member.notified {
            member.notified = true;
            self.next.clear();
            let assigned = member.assigned.clone();
            let event = if assigned.is_empty() { ConsumerEvent::Revoked } else { ConsumerEvent::Assigned(assigned) };
            return Ok(Some(event));
        }
        let mut records = Vec::new();
        for (partition, next) in &mut self.next {
            let Some(log) = state.partition(*partition) else { continue };
            let skip = usize::try_from(*next - log.low)
                .map_err(|_| LogError(format!("offset {next} of partition {partition} is below {}", log.low).into()))?;
            for stored in log.records.iter().skip(skip).take(MAX_RECORDS - records.len().min(MAX_RECORDS)) {
                records.push(stored.at(*partition, *next));
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

    /// Deletes the records that all groups have committed.
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
