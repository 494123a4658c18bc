//! Positions in the log: offsets per partition, and per writer the highest sequence number that was counted.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::time::Millis;

/// A lane's identity in the store. Once closed, it is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(pub i64);

impl fmt::Display for WriterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Sequence number of an event within its writer, from 1, ascending. Gaps have no meaning.
pub type Seq = i64;
/// A partition of the log, from 0.
pub type Partition = i32;
/// An offset in a partition, from 0. In positions it is that of the *next* record to read.
pub type Offset = i64;
/// Identifies one build of a projection from the store; each rebuild gets another.
pub type Generation = String;

/// The partition with this number, from 0. Kafka numbers partitions with an `i32`, so a number that does not fit is a bug.
#[must_use]
pub fn partition_number(number: u64) -> Partition {
    debug_assert!(Partition::try_from(number).is_ok(), "partition {number} does not fit an i32");
    number as Partition
}

/// How many partitions a list of them has. Kafka counts partitions with an `i32`, so a longer list is a bug.
#[must_use]
pub fn partition_count(length: usize) -> u32 {
    debug_assert!(Partition::try_from(length).is_ok(), "{length} partitions do not fit an i32");
    length as u32
}

/// An index or length in memory as a distance between sequence numbers or offsets. It always fits: memory holds at most
/// `isize::MAX` bytes.
#[must_use]
pub fn seq_offset(length: usize) -> i64 {
    const { assert!(usize::BITS <= i64::BITS) };
    length as i64
}

/// The highest sequence numbers of one writer that were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Counted on all partitions: set by a rebuild.
    pub base: Seq,
    /// Counted per partition.
    pub partitions: BTreeMap<Partition, Seq>,
}

/// The marks of all writers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub BTreeMap<WriterId, Mark>);

impl Marks {
    /// The highest sequence number of `writer` counted on `partition`; 0 when none was.
    #[must_use]
    pub fn get(&self, writer: WriterId, partition: Partition) -> Seq {
        self.0.get(&writer).map_or(0, |mark| mark.base.max(mark.partitions.get(&partition).copied().unwrap_or(0)))
    }

    /// The highest sequence number of each writer that was counted.
    pub fn highest(&self) -> impl Iterator<Item = (WriterId, Seq)> {
        let highest = |mark: &Mark| mark.partitions.values().copied().max().unwrap_or(0).max(mark.base);
        self.0.iter().map(move |(writer, mark)| (*writer, highest(mark)))
    }

    /// Raises the mark to `seq`. False when `seq` was counted before, because the record is a replay.
    pub fn advance(&mut self, writer: WriterId, partition: Partition, seq: Seq) -> bool {
        let mark = self.0.entry(writer).or_default();
        if seq <= mark.base {
            return false;
        }
        let high = mark.partitions.entry(partition).or_insert(0);
        if seq <= *high {
            return false;
        }
        *high = seq;
        true
    }
}

/// The last committed sequence number of each writer that the store knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastSeqs {
    /// Of writers that may still appear in the log.
    pub live: BTreeMap<WriterId, Seq>,
    /// Of writers that were compacted.
    pub compacted: BTreeMap<WriterId, Seq>,
}

impl LastSeqs {
    /// The last number of `writer`; 0 when the store does not know it.
    #[must_use]
    pub fn get(&self, writer: WriterId) -> Seq {
        self.live.get(&writer).or_else(|| self.compacted.get(&writer)).copied().unwrap_or(0)
    }
}

/// An event that was counted or published, and that the store does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AheadOfStore {
    /// Its writer.
    pub writer: WriterId,
    /// Its sequence number.
    pub seq: Seq,
    /// The writer's last sequence number in the store; 0 when the store does not know the writer.
    pub last_seq: Seq,
}

impl fmt::Display for AheadOfStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writer, seq, last_seq } = self;
        write!(out, "event {seq} of writer {writer} exists, but the store ends at {last_seq}")
    }
}

/// The first of these events, the highest of each writer, that is not in the store. Read `last_seqs` after the events: an event is committed
/// before it is published, and a store that does not have it has gone back.
pub fn ahead_of_store(events: impl IntoIterator<Item = (WriterId, Seq)>, last_seqs: &LastSeqs) -> Option<AheadOfStore> {
    let events = events.into_iter();
    let mut compared = events.map(|(writer, seq)| AheadOfStore { writer, seq, last_seq: last_seqs.get(writer) });
    compared.find(|event| event.seq > event.last_seq)
}

/// What a projection has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The generation that these positions belong to.
    pub generation: Generation,
    /// Next offset per partition; an absent partition starts at 0.
    pub offsets: BTreeMap<Partition, Offset>,
    /// What was counted per writer.
    pub marks: Marks,
}

/// Identifies one acknowledged event, so that its caller can wait until it is counted: `writer.partition.seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The lane that committed it.
    pub writer: WriterId,
    /// The partition it is published to.
    pub partition: Partition,
    /// Its sequence number.
    pub seq: Seq,
}

impl fmt::Display for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.writer, self.partition, self.seq)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let mut parts = text.split('.');
            let token = Self {
                writer: WriterId(parts.next()?.parse().ok()?),
                partition: parts.next()?.parse().ok()?,
                seq: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(token)
        };
        parse().ok_or_else(|| "not a valid token; use the `token` that Ping returns for `receipt: true`".to_owned())
    }
}

/// Per partition of the log, the time up to which every acknowledged event is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks(pub BTreeMap<Partition, Millis>);

impl Watermarks {
    /// The watermark of the log as a whole; 0 when there is none yet.
    #[must_use]
    pub fn lowest(&self) -> Millis {
        self.0.values().copied().min().unwrap_or(0)
    }

    /// Notes that every event acknowledged before `as_of`, and published to one of `on`, is counted. The log has `partitions`
    /// partitions; a new one starts at the lowest watermark of the others.
    pub fn advance<'a>(&mut self, as_of: Millis, on: impl IntoIterator<Item = &'a Partition>, partitions: u32) {
        let known = self.lowest();
        for partition in 0..u64::from(partitions) {
            self.0.entry(partition_number(partition)).or_insert(known);
        }
        for partition in on {
            let held = self.0.entry(*partition).or_insert(as_of);
            *held = as_of.max(*held);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A replay repeats a run from an earlier point; every number counts when it first appears, and only then.
        #[test]
        fn a_replayed_run_counts_once(length in 1i64..50, replays in proptest::collection::vec((0i64..50, 0i64..50), 0..6)) {
            let mut marks = Marks::default();
            let mut counted = 0;
            let mut highest = 0;
            let runs = std::iter::once((1, length)).chain(replays.iter().map(|(from, more)| (from % length + 1, length + more)));
            for (from, to) in runs {
                for seq in from..=to {
                    counted += i64::from(marks.advance(WriterId(1), 0, seq));
                }
                highest = highest.max(to);
            }
            prop_assert_eq!(counted, highest);
        }
    }

    #[test]
    fn a_base_covers_every_partition() {
        let mut marks = Marks::default();
        marks.0.insert(WriterId(7), Mark { base: 10, partitions: BTreeMap::new() });
        assert!(!marks.advance(WriterId(7), 3, 10));
        assert!(marks.advance(WriterId(7), 3, 11));
        assert_eq!((marks.get(WriterId(7), 3), marks.get(WriterId(7), 4), marks.get(WriterId(8), 0)), (11, 10, 0));
    }

    #[test]
    fn a_token_survives_the_wire() {
        let token = Token { writer: WriterId(12), partition: 3, seq: 456 };
        assert_eq!(token.to_string().parse(), Ok(token));
        assert!(
            "12.3".parse::<Token>().is_err()
                && "a.b.c".parse::<Token>().is_err()
                && "1.2.3.4".parse::<Token>().is_err()
        );
    }
}
