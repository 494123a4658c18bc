//! Exchanges with the store: takes what calls need from the shared buckets, for all calls that wait in one step, and returns what is
//! left over.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use ping_core::{BucketClaim, Nanos};
use ping_ports::{QuotaStore, StoreError, chain};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Charge, QuotaMetrics, QuotaRefusal,
    bucket::{IDLE, LocalBucket},
};

/// Calls that one exchange serves. Others wait for the next one, each in its own task.
pub(crate) const MAX_WAITING: usize = 1_024;
/// Shortest time between two exchanges of a server.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause of a server without buckets.
const NOTHING_TO_DO: Duration = Duration::from_secs(600);
/// Buckets that a server uses at the same time.
const MAX_BUCKETS: usize = 16_384;
/// Shortest pause that a refused caller is asked to make.
const SHORTEST_WAIT: Nanos = 1_000_000;

/// A call that waits for an exchange.
pub(crate) struct Waiting {
    pub(crate) charges: Vec<Charge>,
    pub(crate) reply: oneshot::Sender<Result<(), QuotaRefusal>>,
}

/// What this server has of the shared buckets.
#[derive(Default)]
pub(crate) struct Buckets {
    local: Mutex<HashMap<Arc<str>, LocalBucket>>,
    /// A bucket is low.
    pub(crate) low: Notify,
}

/// Whether a call can be admitted at once.
pub(crate) enum Attempt {
    Admitted,
    Refused(QuotaRefusal),
    /// The shared buckets may have what is missing. If they do not, this is why the call is refused.
    Ask(QuotaRefusal),
}

impl Buckets {
    /// Takes all charges, or none.
    pub(crate) fn attempt(&self, charges: &[Charge], now: Instant) -> Attempt {
        let mut local = self.local.lock();
        let mut attempt = Attempt::Admitted;
        let mut longest = 0;
        for charge in charges {
            if local.len() >= MAX_BUCKETS && !local.contains_key(&charge.bucket) {
                return Attempt::Refused(QuotaRefusal::TooManyBuckets { retry_in: IDLE });
            }
            let capacity = charge.capacity();
            let bucket = local.entry(Arc::clone(&charge.bucket)).or_insert_with(|| LocalBucket::new(capacity, now));
            bucket.set_capacity(capacity);
            let missing = bucket.missing(charge.cost());
            if missing == 0 {
                continue;
            }
            let wait = bucket.wait_for(missing, now);
            if wait > longest {
                longest = wait;
                attempt = Attempt::Refused(charge.exceeded(wait.max(SHORTEST_WAIT)));
            } else if matches!(attempt, Attempt::Admitted) {
                attempt = Attempt::Ask(charge.exceeded(SHORTEST_WAIT));
            }
        }
        if matches!(attempt, Attempt::Admitted) && take(&mut local, charges, now) {
            self.low.notify_one();
        }
        attempt
    }

    /// Puts back what a call has taken and not used.
    fn put_back(&self, charges: &[Charge]) {
        let mut local = self.local.lock();
        for charge in charges {
            if let Some(bucket) = local.get_mut(&charge.bucket) {
                bucket.put_back(charge.cost());
            }
        }
    }

    /// What to claim for the calls that wait.
    fn claims(&self, waiting: &[Waiting], now: Instant) -> Vec<(Arc<str>, BucketClaim)> {
        let mut local = self.local.lock();
        local.retain(|_, bucket| !bucket.is_forgettable(now));
        let mut costs: HashMap<&Arc<str>, Vec<Nanos>> = HashMap::new();
        for charge in waiting.iter().flat_map(|call| &call.charges) {
            costs.entry(&charge.bucket).or_default().push(charge.cost());
            // It may have been forgotten while the call waited.
            let new = || LocalBucket::new(charge.capacity(), now);
            local.entry(Arc::clone(&charge.bucket)).or_insert_with(new);
        }
        let claim = |(name, bucket): (&Arc<str>, &mut LocalBucket)| {
            let claim = bucket.claim(costs.get(name).map_or(&[], Vec::as_slice), now)?;
            bucket.release(&claim);
            Some((Arc::clone(name), claim))
        };
        local.iter_mut().filter_map(claim).collect()
    }

    /// What to return when the server ends.
    fn leftovers(&self) -> Vec<(Arc<str>, BucketClaim)> {
        let later = Instant::now() + IDLE;
        self.claims(&[], later)
    }

    fn is_empty(&self) -> bool {
        self.local.lock().is_empty()
    }
}

/// Takes the charges, which the buckets have. True if one of them is low.
fn take(local: &mut HashMap<Arc<str>, LocalBucket>, charges: &[Charge], now: Instant) -> bool {
    let mut low = false;
    for charge in charges {
        if let Some(bucket) = local.get_mut(&charge.bucket) {
            bucket.take(charge.cost(), now);
            low |= bucket.is_low(now);
        }
    }
    low
}

/// The task that exchanges.
pub(crate) struct Exchange {
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) store: Arc<dyn QuotaStore>,
    pub(crate) metrics: Arc<QuotaMetrics>,
    pub(crate) queue: mpsc::Receiver<Waiting>,
}

impl Exchange {
    /// Runs until every sender is dropped, then returns what is left.
    pub(crate) async fn run(mut self) {
        let mut next = Instant::now();
        let mut waiting: Vec<Waiting> = Vec::new();
        loop {
            let pause = if self.buckets.is_empty() { NOTHING_TO_DO } else { IDLE / 2 };
            tokio::select! {
                biased;
                call = self.queue.recv() => match call {
                    Some(call) => waiting.push(call),
                    None => break,
                },
                () = self.buckets.low.notified() => {}
                () = sleep(pause) => {}
            }
            sleep_until(next).await;
            while waiting.len() < MAX_WAITING
                && let Ok(call) = self.queue.try_recv()
            {
                waiting.push(call);
            }
            // Nothing is taken for callers that have left.
            waiting.retain(|call| !call.reply.is_closed());
            let claims = self.buckets.claims(&waiting, Instant::now());
            let settled = self.settle(&claims).await;
            self.answer(waiting.drain(..), settled.as_ref().err());
            next = Instant::now() + PAUSE;
        }
        let leftovers = self.buckets.leftovers();
        if let Err(error) = self.settle(&leftovers).await {
            tracing::warn!(error = chain(&error), "unused quota is not returned to other servers");
        }
    }

    async fn settle(&self, claims: &[(Arc<str>, BucketClaim)]) -> Result<(), StoreError> {
        if claims.is_empty() {
            return Ok(());
        }
        self.metrics.exchanges.inc();
        // The time before the call: the bucket is refilled from then on.
        let now = Instant::now();
        let grants = self.store.settle(claims).await.inspect_err(|_| {
            self.metrics.errors.inc();
        })?;
        let mut local = self.buckets.local.lock();
        for ((name, _), grant) in claims.iter().zip(grants) {
            if let Some(bucket) = local.get_mut(name) {
                bucket.settle(grant, now);
            }
        }
        Ok(())
    }

    /// Admits the calls in the order in which they came, as far as the buckets suffice.
    fn answer(&self, calls: impl Iterator<Item = Waiting>, error: Option<&StoreError>) {
        let now = Instant::now();
        for Waiting { charges, reply } in calls {
            let answer = match (self.buckets.attempt(&charges, now), error) {
                (Attempt::Admitted, _) => Ok(()),
                (_, Some(error)) => Err(QuotaRefusal::Unavailable(chain(error))),
                // With Ask, other calls have taken what was there.
                (Attempt::Refused(refusal) | Attempt::Ask(refusal), None) => Err(refusal),
            };
            let admitted = answer.is_ok();
            // The caller has left, so it uses nothing.
            if reply.send(answer).is_err() && admitted {
                self.buckets.put_back(&charges);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limit;

    #[test]
    fn a_call_that_waits_has_a_claim_although_its_bucket_was_idle() {
        let (buckets, now) = (Buckets::default(), Instant::now());
        let charge = Charge {
            quota: "q".into(),
            bucket: "events:q".into(),
            limit: Limit::Events,
            amount: 1,
            per_second: 1,
            burst_seconds: 1,
        };
        assert!(matches!(buckets.attempt(std::slice::from_ref(&charge), now), Attempt::Ask(_)));
        let later = now + IDLE;
        assert!(buckets.claims(&[], later).is_empty(), "another exchange forgets the bucket");
        let waiting = Waiting { charges: vec![charge], reply: oneshot::channel().0 };
        assert_eq!(buckets.claims(&[waiting], later).len(), 1);
    }

    #[test]
    fn a_server_counts_in_a_limited_number_of_buckets_and_refuses_who_would_need_another() {
        let (buckets, now) = (Buckets::default(), Instant::now());
        let attempt = |number: usize| {
            let (limit, bucket) = (Limit::Events, format!("events:q/{number}").into());
            let charge = Charge { quota: "q".into(), bucket, limit, amount: 1, per_second: 1, burst_seconds: 1 };
            buckets.attempt(&[charge], now)
        };
        for number in 0..MAX_BUCKETS {
            assert!(matches!(attempt(number), Attempt::Ask(_)), "{number}");
        }
        assert!(matches!(attempt(MAX_BUCKETS), Attempt::Refused(QuotaRefusal::TooManyBuckets { .. })));
        assert!(matches!(attempt(0), Attempt::Ask(_)), "those that are counted are not refused");
    }
}
