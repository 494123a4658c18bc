//! What one server has of a shared bucket. Pure.

use std::time::Duration;

use ping_core::{BucketClaim, BucketGrant, Nanos};
use tokio::time::Instant;

/// A server takes as much ahead as its callers used in about this time, but not more than the bucket is refilled by meanwhile. What a
/// bucket holds is measured in time, so one number says both.
const AHEAD: Nanos = 200_000_000;
/// Whatever is left is returned after this time without use.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// What a server has taken from a shared bucket, and what it knows of the rest.
#[derive(Debug)]
pub(crate) struct LocalBucket {
    capacity: Nanos,
    /// Taken, and not used yet.
    balance: Nanos,
    /// Used since the last grant.
    used: Nanos,
    /// Used in about the time [`AHEAD`] before that; older use counts less.
    used_before: Nanos,
    used_at: Instant,
    /// The last grant, or the creation.
    settled_at: Instant,
    /// How long the shared bucket took to be full then. Others may have taken more since.
    full_in: Nanos,
}

impl LocalBucket {
    pub(crate) fn new(capacity: Nanos, now: Instant) -> Self {
        Self { capacity, balance: 0, used: 0, used_before: 0, used_at: now, settled_at: now, full_in: 0 }
    }

    /// Applies a changed quota.
    pub(crate) fn set_capacity(&mut self, capacity: Nanos) {
        self.capacity = capacity;
    }

    /// How much more is needed for `cost`.
    pub(crate) fn missing(&self, cost: Nanos) -> Nanos {
        (cost - self.balance).max(0)
    }

    /// Uses what is there.
    pub(crate) fn take(&mut self, cost: Nanos, now: Instant) {
        self.balance -= cost;
        self.used = self.used.saturating_add(cost);
        self.used_at = now;
    }

    /// Undoes [`Self::take`].
    pub(crate) fn put_back(&mut self, cost: Nanos) {
        self.balance = self.balance.saturating_add(cost);
        self.used = (self.used - cost).max(0);
    }

    /// How long it will take at least until the shared bucket has `missing`.
    pub(crate) fn wait_for(&self, missing: Nanos, now: Instant) -> Nanos {
        let full_in = self.full_in.saturating_sub(nanos(now - self.settled_at)).max(0);
        let room = self.capacity.saturating_sub(full_in);
        missing.saturating_sub(room).max(0)
    }

    /// Whether to take more before it is missed.
    pub(crate) fn is_low(&self, now: Instant) -> bool {
        self.balance < self.ahead(now) / 2 && self.wait_for(1, now) == 0
    }

    /// Whether nothing is left and nothing was used for a while.
    pub(crate) fn is_forgettable(&self, now: Instant) -> bool {
        self.balance == 0 && now - self.used_at >= IDLE
    }

    /// How much to have besides what is needed now.
    fn ahead(&self, now: Instant) -> Nanos {
        if now - self.used_at >= IDLE { 0 } else { self.used_lately(now).min(AHEAD) }
    }

    /// What was used in about the time [`AHEAD`] until `now`: a mean that forgets what is older.
    fn used_lately(&self, now: Instant) -> Nanos {
        let since = nanos(now - self.settled_at);
        let part = |amount: Nanos, of: Nanos, whole: Nanos| {
            Nanos::try_from(i128::from(amount) * i128::from(of) / i128::from(whole)).unwrap_or(Nanos::MAX)
        };
        let before = part(self.used_before, AHEAD.saturating_sub(since).max(0), AHEAD);
        before.saturating_add(part(self.used, AHEAD, since.max(AHEAD)))
    }

    /// What to claim for calls that wait, of which the costs are given; none if nothing is missing or superfluous.
    pub(crate) fn claim(&self, waiting: &[Nanos], now: Instant) -> Option<BucketClaim> {
        let sum = waiting.iter().fold(0, |sum: Nanos, cost| sum.saturating_add(*cost));
        let desired = sum.saturating_add(self.ahead(now));
        let claim = if self.balance > desired {
            BucketClaim { released: self.balance - desired, capacity: self.capacity, ..BucketClaim::default() }
        } else {
            let want = (desired - self.balance).min(self.capacity);
            let need = waiting.iter().min().map_or(0, |least| self.missing(*least)).min(want);
            BucketClaim { released: 0, need, want, capacity: self.capacity }
        };
        (claim.released > 0 || claim.want > 0).then_some(claim)
    }

    /// Gives up what a claim returns. Before it is sent: if the answer is lost, it may have been returned.
    pub(crate) fn release(&mut self, claim: &BucketClaim) {
        self.balance -= claim.released;
    }

    pub(crate) fn settle(&mut self, grant: BucketGrant, now: Instant) {
        self.balance = self.balance.saturating_add(grant.granted);
        self.full_in = grant.full_in;
        self.used_before = self.used_lately(now);
        self.settled_at = now;
        self.used = 0;
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;
    const MILLI: Nanos = 1_000_000;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn it_claims_what_calls_need_and_what_they_will_use_soon() {
        let start = Instant::now();
        let mut bucket = LocalBucket::new(2 * SECOND, start);
        let claim = bucket.claim(&[10 * MILLI, 3 * MILLI], start).unwrap();
        assert_eq!((claim.need, claim.want, claim.released), (3 * MILLI, 13 * MILLI, 0));
        bucket.settle(BucketGrant { granted: 13 * MILLI, full_in: 13 * MILLI }, start);
        bucket.take(13 * MILLI, start);
        let claim = bucket.claim(&[], after(start, 100)).unwrap();
        assert_eq!((claim.need, claim.want), (0, 13 * MILLI));
        assert!(bucket.is_low(after(start, 100)));
    }

    #[test]
    fn what_is_used_at_a_steady_rate_is_taken_ahead_for_a_fifth_of_a_second_however_often_it_is_settled() {
        for pause in [20, 50, 100, 500] {
            let start = Instant::now();
            let mut bucket = LocalBucket::new(2 * SECOND, start);
            for step in 1..=40 {
                let now = after(start, step * pause);
                // Half of the quota.
                bucket.take(i64::try_from(pause).unwrap() * MILLI / 2, now);
                bucket.settle(BucketGrant::default(), now);
            }
            let ahead = bucket.ahead(after(start, 40 * pause)) / MILLI;
            assert!((98..=100).contains(&ahead), "{ahead} ms ahead, settled every {pause} ms");
        }
    }

    #[test]
    fn it_takes_no_more_ahead_than_the_bucket_refills_by_meanwhile() {
        let start = Instant::now();
        let mut bucket = LocalBucket::new(60 * SECOND, start);
        bucket.settle(BucketGrant { granted: 50 * SECOND, full_in: 50 * SECOND }, start);
        bucket.take(50 * SECOND, start);
        assert_eq!(bucket.claim(&[], after(start, 20)).unwrap().want, AHEAD);
    }

    #[test]
    fn what_is_not_used_is_returned() {
        let start = Instant::now();
        let mut bucket = LocalBucket::new(SECOND, start);
        bucket.settle(BucketGrant { granted: 100 * MILLI, full_in: 100 * MILLI }, start);
        bucket.take(10 * MILLI, start);
        let claim = bucket.claim(&[], after(start, 1_000)).unwrap();
        assert_eq!((claim.released, claim.want), (90 * MILLI, 0));
        bucket.release(&claim);
        bucket.settle(BucketGrant::default(), after(start, 1_000));
        assert!(bucket.is_forgettable(after(start, 1_000)));
        assert_eq!(bucket.claim(&[], after(start, 2_000)), None);
    }

    #[test]
    fn an_empty_bucket_is_not_asked_again_before_it_can_have_refilled() {
        let start = Instant::now();
        let mut bucket = LocalBucket::new(SECOND, start);
        assert_eq!(bucket.wait_for(SECOND, start), 0, "it is full until the store says otherwise");
        bucket.settle(BucketGrant { granted: 0, full_in: SECOND }, start);
        assert_eq!(bucket.wait_for(50 * MILLI, start), 50 * MILLI);
        assert_eq!(bucket.wait_for(50 * MILLI, after(start, 20)), 30 * MILLI);
        assert_eq!(bucket.wait_for(50 * MILLI, after(start, 50)), 0);
        assert_eq!(bucket.missing(5), 5);
    }
}
