//! How far everything acknowledged is counted: the promise behind `as_of`.
//!
//! First ask the outbox what is not published, then the log where it ends. An event acknowledged before the answer of the
//! outbox is below those ends; once the cache has counted up to them, it has counted that event.

use std::collections::BTreeMap;

use super::{CountError, LogPorts};
use ping_core::{Millis, Offset, Partition};
use ping_ports::Bounds;

/// A point in time and the offsets that stand for it.
#[derive(Clone, Debug)]
pub(super) struct LogWatermark {
    pub(super) as_of: Millis,
    pub(super) bounds: BTreeMap<Partition, Bounds>,
}

impl LogWatermark {
    /// Takes the next look, in the order that makes it a promise.
    pub(super) async fn look(ports: &LogPorts) -> Result<Self, CountError> {
        let as_of = ports.outbox.outbox_watermark().await?.published_until();
        let bounds = ports.bounds.bounds().await?;
        Ok(Self { as_of, bounds })
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self) -> u32 {
        u32::try_from(self.bounds.len()).unwrap_or(u32::MAX)
    }

    /// Records between `counted` and here on the partitions that are ours.
    pub(super) fn lag(&self, assigned: &[Partition], counted: &BTreeMap<Partition, Offset>) -> i64 {
        let missing = |partition: &Partition| {
            let bounds = self.bounds.get(partition)?;
            let next = counted.get(partition).copied().unwrap_or(0);
            // An empty partition ends where it begins, whatever was counted.
            (bounds.end > bounds.low).then(|| (bounds.end - next.max(bounds.low)).max(0))
        };
        assigned.iter().filter_map(missing).sum()
    }
}
