//! A step from one set of positions to the next.

use std::collections::BTreeMap;

use ping_core::{Generation, Millis, Offset, Partition, Positions, Seq, WriterId};

/// The step that some records make. It applies only to a projection whose positions are where the step starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// The generation it belongs to.
    pub generation: Generation,
    /// The offsets at which it starts. A projection that has no offset for a partition is at 0.
    pub from: BTreeMap<Partition, Offset>,
    /// The offsets at which it ends. Marks change only together with the offset of their partition, so comparing offsets
    /// suffices.
    pub to: BTreeMap<Partition, Offset>,
    /// The marks to raise.
    pub marks: BTreeMap<(WriterId, Partition), Seq>,
    /// The watermark, if it changes: afterwards every event acknowledged before this time, and published to a partition in
    /// `from`, is counted.
    pub as_of: Option<Millis>,
    /// How many partitions the topic has; 0 without `as_of`.
    pub partitions: u32,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was applied.
    Done,
    /// Nothing was changed, because the positions are not where it starts. The text says where they are.
    Stale(String),
}

impl Advance {
    /// The last event of each mark.
    pub fn writers(&self) -> impl Iterator<Item = (WriterId, Seq)> {
        self.marks.iter().map(|((writer, _), seq)| (*writer, *seq))
    }

    /// Why it cannot be applied at `held`; `None` when it can.
    #[must_use]
    pub fn refusal(&self, held: Option<&Positions>) -> Option<String> {
        let Some(held) = held else { return Some("there are no positions".into()) };
        if held.generation != self.generation {
            return Some(format!("the generation is {}", held.generation));
        }
        self.from.iter().find_map(|(partition, from)| {
            let at = held.offsets.get(partition).copied().unwrap_or(0);
            (at != *from).then(|| format!("partition {partition} is at {at}, not at {from}"))
        })
    }

    /// Moves `held` to where the step ends.
    pub fn apply(&self, held: &mut Positions) {
        held.offsets.extend(&self.to);
        for ((writer, partition), seq) in &self.marks {
            held.marks.advance(*writer, *partition, *seq);
        }
    }
}
