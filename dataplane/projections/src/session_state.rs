//! What a session knows, and what it does next. Pure: the time is an argument, and nothing here waits.

use std::{collections::BTreeMap, mem, time::Duration};

use tokio::time::Instant;

use super::{
    delta::{Delta, RecordOutcome},
    projection::Sums,
    settings::CountSettings,
    watermark::LogWatermark,
};
use ping_core::{LastSeqs, Offset, Partition, Positions, Seq, WriterId};
use ping_ports::{Advance, DeadLetter, Record, TraceLinks};

/// A projection that is not primary rests after a flush for as long as the flush took, and at most this long: after a slow flush it
/// has to catch up.
const MAX_REST: Duration = Duration::from_millis(250);

/// What a session does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// End the session: the process is shutting down, and everything read is flushed.
    Finish,
    /// Flush what was read.
    Flush,
    /// Ask how far publishing has come.
    CheckWatermark,
    /// Run the chores and the audit.
    Audit,
    /// Wait for an event.
    Wait(Wait),
}

/// What to wait for, besides the result of a call that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// Wait for records. False when the delta is full, or the process is shutting down.
    pub(super) for_records: bool,
    /// Wait for the process to be told to shut down.
    pub(super) for_shutdown: bool,
    /// Flush at once if no record is ready.
    pub(super) flush_when_quiet: bool,
    /// Decide again at this time.
    pub(super) wake_at: Option<Instant>,
}

/// Something done every so often, in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// To be started at this time.
    At(Instant),
    Running,
    /// Left to another processor.
    Never,
}

impl Task {
    fn start_time(self) -> Option<Instant> {
        match self {
            Self::At(time) => Some(time),
            Self::Running | Self::Never => None,
        }
    }

    fn is_due(self, now: Instant) -> bool {
        self.start_time().is_some_and(|time| time <= now)
    }
}

/// A flush that runs.
#[derive(Debug)]
struct RunningFlush {
    to: BTreeMap<Partition, Offset>,
    records: usize,
    started: Instant,
}

/// A flush that succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FinishedFlush {
    /// The offsets it reached.
    pub(super) to: BTreeMap<Partition, Offset>,
    /// The records in it.
    pub(super) records: usize,
    /// How long it took.
    pub(super) time: Duration,
}

/// How many of some records were not counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Records that were counted before.
    pub(super) duplicates: u64,
    /// Records that cannot be counted.
    pub(super) dead: u64,
    /// Records of events that the store does not have.
    pub(super) phantoms: u64,
}

/// What a session knows.
#[derive(Debug)]
pub(super) struct SessionState<T> {
    primary: bool,
    settings: CountSettings,
    assigned: Vec<Partition>,
    /// What was read, flushed or not.
    read: Positions,
    /// What the projection has.
    counted: BTreeMap<Partition, Offset>,
    delta: Delta<T>,
    /// When the first record of the delta was read.
    first_record: Option<Instant>,
    flush: Option<RunningFlush>,
    /// The next flush starts no earlier. A projection that is not primary leaves time of the store to others.
    rest_until: Instant,
    /// A watermark that was not flushed yet.
    watermark: Option<LogWatermark>,
    watermark_check: Task,
    audit: Task,
    draining: bool,
}

impl<T: Sums> SessionState<T> {
    /// A session that starts `now` at `positions`. One processor audits: the one that has the first partition.
    pub(super) fn new(
        primary: bool,
        settings: CountSettings,
        assigned: Vec<Partition>,
        positions: Positions,
        now: Instant,
    ) -> Self {
        let audits = assigned.contains(&0);
        Self {
            primary,
            assigned,
            counted: positions.offsets.clone(),
            read: positions,
            delta: Delta::default(),
            first_record: None,
            flush: None,
            rest_until: now,
            watermark: None,
            watermark_check: Task::At(now),
            audit: if audits { Task::At(now + settings.audit_interval) } else { Task::Never },
            draining: false,
            settings,
        }
    }

    /// What to do at the time `now`.
    pub(super) fn next_action(&self, now: Instant) -> Action {
        let rested = self.primary || self.draining || now >= self.rest_until;
        let can_flush = self.flush.is_none() && rested;
        if can_flush && self.draining && self.delta.records() == 0 {
            return Action::Finish;
        }
        let full = self.is_full();
        let flush_at = self.first_record.map(|first| first + self.settings.flush_interval);
        let due = flush_at.is_some_and(|time| now >= time);
        if can_flush && (full || due || self.draining) {
            return Action::Flush;
        }
        if self.watermark_check.is_due(now) {
            return Action::CheckWatermark;
        }
        if self.audit.is_due(now) {
            return Action::Audit;
        }
        let unflushed = self.primary && self.delta.records() > 0;
        let times = [
            Some(self.rest_until).filter(|_| self.flush.is_none() && !rested),
            flush_at.filter(|_| can_flush),
            self.watermark_check.start_time(),
            self.audit.start_time(),
        ];
        Action::Wait(Wait {
            for_records: !full && !self.draining,
            for_shutdown: !self.draining,
            flush_when_quiet: can_flush && (unflushed || self.has_reached_watermark()),
            wake_at: times.into_iter().flatten().min(),
        })
    }

    /// The primary flushes as soon as it can, so its records bound what it holds. The others wait for a delta that is worth a
    /// transaction, up to a bound on its memory.
    fn is_full(&self) -> bool {
        if self.primary {
            self.delta.records() >= self.settings.flush_records
        } else {
            self.delta.bytes() >= self.settings.flush_bytes
        }
    }

    /// Whether there is a watermark, and everything below it is read.
    fn has_reached_watermark(&self) -> bool {
        self.watermark.as_ref().is_some_and(|watermark| watermark.lag(&self.assigned, &self.read.offsets) == 0)
    }

    /// Adds records that were read. With `last_seqs` of their writers, those that the store does not have are left out.
    pub(super) fn take(&mut self, records: Vec<Record>, last_seqs: Option<&LastSeqs>, now: Instant) -> Tally {
        let mut tally = Tally::default();
        for record in records {
            match self.delta.take(record, &mut self.read, last_seqs) {
                RecordOutcome::Duplicate => tally.duplicates += 1,
                RecordOutcome::Dead => tally.dead += 1,
                RecordOutcome::Phantom => tally.phantoms += 1,
                RecordOutcome::Counted | RecordOutcome::Skipped => {}
            }
        }
        if self.first_record.is_none() && self.delta.records() > 0 {
            self.first_record = Some(now);
        }
        tally
    }

    /// The highest event of each writer that was read, flushed or not.
    pub(super) fn highest_read(&self) -> Vec<(WriterId, Seq)> {
        self.read.marks.highest().collect()
    }

    /// The offset of each assigned partition that is read next.
    pub(super) fn next_offsets(&self) -> BTreeMap<Partition, Offset> {
        let next = |partition: &Partition| Some((*partition, *self.read.offsets.get(partition)?));
        self.assigned.iter().filter_map(next).collect()
    }

    /// Removes the records that are not counted from the delta. Their positions stay.
    pub(super) fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        self.delta.take_dead_letters()
    }

    /// The spans that published what the next flush counts.
    pub(super) fn traces(&self) -> &TraceLinks {
        self.delta.traces()
    }

    /// Moves the delta into a flush that starts `now`, with the watermark if it is reached.
    pub(super) fn begin_flush(&mut self, now: Instant) -> (Advance, T) {
        let delta = mem::take(&mut self.delta);
        self.first_record = None;
        let records = delta.records();
        let (mut advance, sums) = delta.finish(&self.read.generation);
        if let Some(watermark) =
            self.watermark.take_if(|watermark| watermark.lag(&self.assigned, &self.read.offsets) == 0)
        {
            advance.as_of = Some(watermark.as_of);
            advance.partitions = watermark.partitions();
            // The watermark covers all assigned partitions, so all of them must still be where they were.
            for partition in &self.assigned {
                let at = self.counted.get(partition).copied().unwrap_or(0);
                advance.from.entry(*partition).or_insert(at);
                advance.to.entry(*partition).or_insert(at);
            }
        }
        self.flush = Some(RunningFlush { to: advance.to.clone(), records, started: now });
        (advance, sums)
    }

    /// The running flush succeeded `now`.
    pub(super) fn flushed(&mut self, now: Instant) -> Option<FinishedFlush> {
        let RunningFlush { to, records, started } = self.flush.take()?;
        let time = now - started;
        self.rest_until = now + time.min(MAX_REST);
        self.counted.extend(&to);
        Some(FinishedFlush { to, records, time })
    }

    pub(super) fn start_watermark_check(&mut self) {
        self.watermark_check = Task::Running;
    }

    /// Notes a watermark, and schedules the next check. Returns the records that are not counted yet on the assigned
    /// partitions. A watermark that is not reached yet stays: a processor that is always behind would otherwise never reach
    /// one.
    pub(super) fn watermark_checked(&mut self, watermark: LogWatermark, now: Instant) -> i64 {
        self.watermark_check = Task::At(now + self.settings.watermark_interval);
        let lag = watermark.lag(&self.assigned, &self.counted);
        self.watermark.get_or_insert(watermark);
        lag
    }

    pub(super) fn start_audit(&mut self) {
        self.audit = Task::Running;
    }

    /// Schedules the next audit.
    pub(super) fn audited(&mut self, now: Instant) {
        self.audit = Task::At(now + self.settings.audit_interval);
    }

    /// The process is shutting down: read nothing more, flush what was read, finish.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }
}

#[cfg(test)]
mod tests;
