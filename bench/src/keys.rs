//! The sources of the load: their names, and how often each of them sends an event.

use ping_proto::RecordRequest;
use rand::{Rng, rngs::SmallRng};

/// One in this many sources sends failed events only, and therefore has a negative status.
const NEGATIVE: u64 = 100;
/// A prime, so that stepping by it visits every source once before it repeats one.
const STRIDE: u64 = 2_654_435_761;

/// The name of a source: 24 bytes.
pub(crate) fn name(source: u64) -> String {
    format!("source-{source:09}.example")
}

/// The source for a sequence number, of `sources`.
pub(crate) fn nth(turn: u64, sources: u64) -> u64 {
    turn.wrapping_mul(STRIDE) % sources
}

/// Whether a source sends failed events.
pub(crate) fn is_negative(source: u64) -> bool {
    source % NEGATIVE == 1
}

/// An event of a source.
pub(crate) fn event(source: u64) -> RecordRequest {
    let kind = if is_negative(source) { "failed" } else { "succeeded" };
    RecordRequest { source: name(source), kind: kind.to_owned(), ..RecordRequest::default() }
}

/// Which of a number of sources sends the next event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// Each is equally likely.
    Uniform(u64),
    /// Each is as likely as the inverse of its rank says: a Zipf distribution with the exponent 1. Not the one of `rand_distr`, which turns
    /// on a feature of `num-traits` that half of the workspace would be compiled for again.
    Zipf(u64),
}

impl Keys {
    /// The next source.
    pub(crate) fn next(self, random: &mut SmallRng) -> u64 {
        match self {
            Self::Uniform(sources) => random.random_range(0..sources),
            Self::Zipf(sources) => loop {
                // The logarithm of this is uniform, so it falls into each interval [rank, rank + 1) with a probability proportional to
                // ln(1 + 1 / rank). Of those, the share is accepted that makes it proportional to 1 / rank.
                let rank = (sources as f64 + 1.0).powf(random.random()).floor().max(1.0);
                let accepted = (1.0 / rank) / (1.0 / rank).ln_1p() * std::f64::consts::LN_2;
                if rank <= sources as f64 && random.random_bool(accepted.min(1.0)) {
                    break rank as u64 - 1;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    /// How many of 100,000 events come from each of ten sources.
    fn counts(keys: Keys) -> [i64; 10] {
        let (mut random, mut counts) = (SmallRng::seed_from_u64(1), [0; 10]);
        for _ in 0..100_000 {
            counts[usize::try_from(keys.next(&mut random)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn uniform_keys_are_equally_frequent() {
        assert!(counts(Keys::Uniform(10)).into_iter().all(|count| (9_500..10_500).contains(&count)));
    }

    #[test]
    fn the_second_of_zipf_keys_is_half_as_frequent_as_the_first_and_the_tenth_a_tenth() {
        let counts = counts(Keys::Zipf(10));
        // The sum of the first ten inverses is 2.93.
        assert!((33_500..34_800).contains(&counts[0]), "{counts:?}");
        assert!((16_500..17_700).contains(&counts[1]) && (3_200..3_700).contains(&counts[9]), "{counts:?}");
    }

    #[test]
    fn sequence_numbers_visit_every_source() {
        let visited: BTreeSet<_> = (0..1_000).map(|turn| nth(turn, 1_000)).collect();
        assert_eq!(visited.len(), 1_000);
    }
}
