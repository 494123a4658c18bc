//! Where a stream of records stands: offsets per partition and high-water marks per writer.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::Millis;

/// A lane's identity in the store. Never used again once closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(pub i64);

impl fmt::Display for WriterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Sequence number of an event within its writer: from 1, ascending; gaps mean nothing.
pub type Seq = i64;
/// A partition of the log, from 0.
pub type Partition = i32;
/// An offset in a partition, from 0: the *next* record to read.
pub type Offset = i64;
/// Identifies one filling of the cache; a rebuild makes another.
pub type Generation = String;

/// The highest sequence number counted, of one writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Counted on every partition: set by a rebuild.
    pub base: Seq,
    /// Counted on one partition.
    pub partitions: BTreeMap<Partition, Seq>,
}

/// High-water marks of all writers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub BTreeMap<WriterId, Mark>);

impl Marks {
    /// The highest sequence number of `writer` counted on `partition`; 0 when none was.
    #[must_use]
    pub fn get(&self, writer: WriterId, partition: Partition) -> Seq {
        self.0.get(&writer).map_or(0, |mark| mark.base.max(mark.partitions.get(&partition).copied().unwrap_or(0)))
    }

    /// Raises the mark if `seq` is new. False when it was counted before: a replay.
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

/// What the cache says it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The filling these positions belong to.
    pub generation: Generation,
    /// Next offset per partition; a partition that is absent starts at 0.
    pub offsets: BTreeMap<Partition, Offset>,
    /// What was counted of each writer.
    pub marks: Marks,
}

/// Proof of one acknowledged event, for reading one's own write: `writer.partition.seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The lane that committed it.
    pub writer: WriterId,
    /// Where it travels.
    pub partition: Partition,
    /// Its number.
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
        parse().ok_or_else(|| "not a token of ours; pass back what Ping answered to `receipt: true`".to_owned())
    }
}

/// Up to when everything acknowledged is counted, per partition of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks(pub BTreeMap<Partition, Millis>);

impl Watermarks {
    /// What holds for all of them; 0 when nothing was promised.
    #[must_use]
    pub fn lowest(&self) -> Millis {
        self.0.values().copied().min().unwrap_or(0)
    }

    /// Everything acknowledged before `as_of`, and published to one of `on`, is counted; the log has so many partitions. One that
    /// is new promises no more than the others did.
    pub fn advance<'a>(&mut self, as_of: Millis, on: impl IntoIterator<Item = &'a Partition>, partitions: u32) {
        let known = self.lowest();
        for partition in 0..Partition::try_from(partitions).unwrap_or(Partition::MAX) {
            self.0.entry(partition).or_insert(known);
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
