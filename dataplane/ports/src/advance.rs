//! A step of positions, and what became of it.

use std::collections::BTreeMap;

use ping_core::{Generation, Millis, Offset, Partition, Positions, Seq, WriterId};

/// From where to where some records lead: what they add counts only for whoever stands where it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// The filling it belongs to.
    pub generation: Generation,
    /// Offsets that must be held for this to be applied; absent there counts as 0.
    pub from: BTreeMap<Partition, Offset>,
    /// Offsets held afterwards. Marks change only with the offset of their partition, so offsets are all that is compared.
    pub to: BTreeMap<Partition, Offset>,
    /// Marks raised on the way.
    pub marks: BTreeMap<(WriterId, Partition), Seq>,
    /// Everything acknowledged before this time, and published to one of the partitions of `from`, is counted by then.
    pub as_of: Option<Millis>,
    /// How many partitions the topic has, known with `as_of`.
    pub partitions: u32,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Counted.
    Done,
    /// Nothing was changed: the positions are elsewhere. The text says where.
    Stale(String),
}

impl Advance {
    /// Why it does not start at `held`, if it does not.
    #[must_use]
    pub fn refusal(&self, held: Option<&Positions>) -> Option<String> {
        let Some(held) = held else { return Some("nothing is held".into()) };
        if held.generation != self.generation {
            return Some(format!("its generation is {}", held.generation));
        }
        self.from.iter().find_map(|(partition, from)| {
            let at = held.offsets.get(partition).copied().unwrap_or(0);
            (at != *from).then(|| format!("partition {partition} stands at {at}, not {from}"))
        })
    }

    /// Moves `held` to where it ends.
    pub fn apply(&self, held: &mut Positions) {
        held.offsets.extend(&self.to);
        for ((writer, partition), seq) in &self.marks {
            held.marks.advance(*writer, *partition, *seq);
        }
    }
}
