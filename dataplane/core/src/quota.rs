//! The arithmetic of quotas: a bucket that several servers share, and a budget per day.

use crate::{Day, Millis};

/// A duration in nanoseconds. What an amount costs is the time in which its bucket refills by as much, so that a bucket needs no
/// rate, and a changed rate needs no conversion.
pub type Nanos = i64;

/// Nanoseconds of a second.
pub const NANOS_PER_SECOND: Nanos = 1_000_000_000;
/// Nanoseconds of a millisecond.
const NANOS_PER_MILLI: Nanos = 1_000_000;

/// What `amount` costs in a bucket that refills by `per_second` each second, rounded up. Saturates.
#[must_use]
pub fn cost(amount: u64, per_second: u64) -> Nanos {
    let cost = (u128::from(amount) * 1_000_000_000).div_ceil(u128::from(per_second.max(1)));
    Nanos::try_from(cost).unwrap_or(Nanos::MAX)
}

/// What one server takes from a shared bucket, or returns to it, in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketClaim {
    /// Taken earlier and not used.
    pub released: Nanos,
    /// Less than this is of no use.
    pub need: Nanos,
    /// More than this is of no use; at least `need`.
    pub want: Nanos,
    /// What the full bucket holds.
    pub capacity: Nanos,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketGrant {
    /// Nothing, or from `need` to `want`.
    pub granted: Nanos,
    /// How long the bucket will take to be full again, if nothing else is taken.
    pub full_in: Nanos,
}

impl BucketClaim {
    /// Settles the claim against a bucket that would be full in `full_in`.
    #[must_use]
    pub fn settle(self, full_in: Nanos) -> BucketGrant {
        let full_in = full_in.saturating_sub(self.released).max(0);
        // Negative if the capacity was reduced.
        let room = self.capacity.saturating_sub(full_in);
        let granted = if self.need <= room { self.want.min(room).max(0) } else { 0 };
        BucketGrant { granted, full_in: full_in.saturating_add(granted) }
    }

    /// Settles the claim against a bucket that would be full at `full_at` (nanoseconds since the Unix epoch) when it is `now`.
    /// Returns the grant, and when the bucket will be full.
    #[must_use]
    pub fn settle_at(self, full_at: Nanos, now: Millis) -> (BucketGrant, Nanos) {
        let now = now.saturating_mul(NANOS_PER_MILLI);
        let grant = self.settle(full_at.saturating_sub(now).max(0));
        (grant, now.saturating_add(grant.full_in))
    }
}

/// Milliseconds from `now` to the end of its day, UTC.
#[must_use]
pub fn until_next_day(now: Millis) -> Millis {
    Day::of(now).back(-1).start().saturating_sub(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Nanos = NANOS_PER_SECOND;

    fn claim(need: Nanos, want: Nanos) -> BucketClaim {
        BucketClaim { released: 0, need, want, capacity: SECOND }
    }

    #[test]
    fn an_amount_costs_the_time_in_which_the_bucket_refills_by_it() {
        assert_eq!(cost(10, 1_000), 10_000_000);
        assert_eq!(cost(1, 3), 333_333_334);
        assert_eq!(cost(0, 1), 0);
        assert_eq!(cost(u64::MAX, 1), Nanos::MAX);
        assert_eq!(cost(1, 0), SECOND, "a rate of 0 is not divided by");
    }

    #[test]
    fn a_full_bucket_grants_what_is_wanted_and_an_empty_one_nothing() {
        assert_eq!(claim(1, 10).settle(0), BucketGrant { granted: 10, full_in: 10 });
        assert_eq!(claim(1, 10).settle(SECOND), BucketGrant { granted: 0, full_in: SECOND });
        assert_eq!(claim(1, 10).settle(SECOND - 4), BucketGrant { granted: 4, full_in: SECOND });
        assert_eq!(claim(5, 10).settle(SECOND - 4), BucketGrant { granted: 0, full_in: SECOND - 4 });
    }

    #[test]
    fn what_is_returned_can_be_taken_again_but_does_not_overfill() {
        let release = BucketClaim { released: 30, ..claim(0, 0) };
        assert_eq!(release.settle(SECOND).full_in, SECOND - 30);
        assert_eq!(release.settle(10).full_in, 0);
    }

    #[test]
    fn a_bucket_whose_capacity_was_reduced_grants_nothing_until_it_fits() {
        assert_eq!(claim(0, 10).settle(5 * SECOND), BucketGrant { granted: 0, full_in: 5 * SECOND });
    }

    #[test]
    fn a_day_ends_at_midnight() {
        assert_eq!(until_next_day(0), 86_400_000);
        assert_eq!(until_next_day(86_399_999), 1);
    }

    proptest! {
        /// For any order of claims and returns, no more is granted than the bucket held and was refilled by.
        #[test]
        fn no_more_is_granted_than_the_quota(steps in prop::collection::vec((0..2_000_i64, 0..3_000_i64, 0..3_000_i64, 0..50_i64), 1..60)) {
            let (mut now, mut full_at, mut granted, mut left) = (1_000_000, 0, 0, 0);
            let start = now;
            for (pause_ms, need_ms, more_ms, release_percent) in steps {
                now += pause_ms;
                let released = left * release_percent / 100;
                let (need, want) = (need_ms * NANOS_PER_MILLI, (need_ms + more_ms) * NANOS_PER_MILLI);
                let claim = BucketClaim { released, need, want, capacity: 2 * SECOND };
                let (grant, next) = claim.settle_at(full_at, now);
                prop_assert!(grant.granted == 0 || (need..=want).contains(&grant.granted));
                full_at = next;
                left += grant.granted - released;
                granted += grant.granted - released;
                let allowed = 2 * SECOND + (now - start) * NANOS_PER_MILLI;
                prop_assert!(granted <= allowed, "{granted} of {allowed}");
            }
        }
    }
}
