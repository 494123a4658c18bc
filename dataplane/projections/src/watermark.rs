//! The watermark behind `as_of`: the time up to which every acknowledged event is counted.
//!
//! A check first asks the outbox what is not published yet, then asks the log where it ends. An event acknowledged before the
//! outbox answered lies below those ends. A projection that has counted up to the ends has therefore counted the event.

use std::collections::BTreeMap;

use super::{error::CountError, settings::LogPorts, store_check::check_store};
use ping_core::{Millis, Offset, Partition, Seq, WriterId, partition_count};
use ping_ports::Bounds;

/// Every event acknowledged before `as_of` lies below the ends in `bounds`.
#[derive(Clone, Debug)]
pub(super) struct LogWatermark {
    pub(super) as_of: Millis,
    pub(super) bounds: BTreeMap<Partition, Bounds>,
}

impl LogWatermark {
    /// Asks outbox and log, in the order that the watermark depends on.
    ///
    /// `next` are the positions by now. The log must not end before them: then it is another one, and the watermark would not hold.
    pub(super) async fn ask(ports: &LogPorts, next: BTreeMap<Partition, Offset>) -> Result<Self, CountError> {
        let as_of = ports.outbox.outbox_watermark().await?.published_until();
        let bounds = ports.bounds.bounds().await?;
        for (partition, next) in next {
            let end = bounds.get(&partition).map_or(0, |bounds| bounds.end);
            if end < next {
                return Err(CountError::LogEndsEarlier { partition, next, end });
            }
        }
        Ok(Self { as_of, bounds })
    }

    /// Checks that the store has the events of `read`: the highest ones of each writer that were read by now, which is after the store
    /// told its time. Those that are read later are checked when they are flushed. So a watermark of a store that was restored never
    /// reaches a projection that has counted what the store lost.
    pub(super) async fn check(self, ports: &LogPorts, read: Vec<(WriterId, Seq)>) -> Result<Self, CountError> {
        check_store(&*ports.outbox, read).await?;
        Ok(self)
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self) -> u32 {
        partition_count(self.bounds.len())
    }

    /// Records on the `assigned` partitions between `counted` and the watermark.
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
