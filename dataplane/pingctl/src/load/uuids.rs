//! Event ids in the order of time.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use uuid::{Builder, NoContext, Timestamp, Uuid};

/// Makes version 7 UUIDs. Cheaper than `Uuid::now_v7`, which reads the clock, takes a lock and uses a cryptographic random
/// number generator for each: a load generator should leave the CPU to the server.
pub(super) struct UuidGenerator {
    random: SmallRng,
    counter: u16,
}

impl UuidGenerator {
    pub(super) fn new() -> Self {
        Self { random: SmallRng::from_os_rng(), counter: 0 }
    }

    /// The next id: the time, a counter that orders the ids of a millisecond, and 62 random bits.
    pub(super) fn next(&mut self, unix_ms: u64) -> Uuid {
        self.counter = self.counter.wrapping_add(1);
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&self.counter.to_be_bytes());
        tail[2..].copy_from_slice(&self.random.random::<u64>().to_be_bytes());
        Builder::from_unix_timestamp_millis(unix_ms, &tail).into_uuid()
    }
}

/// Milliseconds since the Unix epoch, by this machine's clock.
pub(super) fn unix_ms() -> u64 {
    let (seconds, nanos) = Timestamp::now(NoContext).to_unix();
    seconds * 1000 + u64::from(nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_different_and_in_order() {
        let mut uuids = UuidGenerator::new();
        let made: Vec<_> = (1..4000).map(|_| uuids.next(1_728_926_331_000)).collect();
        assert!(made.is_sorted() && made.iter().collect::<BTreeSet<_>>().len() == made.len());
        assert_eq!(made[0].get_version_num(), 7);
        assert!(uuids.next(1_728_926_331_001) > made[0]);
    }
}
