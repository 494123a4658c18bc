//! The memory that all requests together may hold.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::TransportMetrics;

/// Bytes per permit: a semaphore counts at most 2^29 permits at a time.
const UNIT: usize = 256;
/// Charges up to this many bytes also draw on the reserve.
const SMALL: usize = 8 * 1024;
/// The share of the budget that is reserved for small charges: 1/8. Large requests cannot crowd out a ping.
const RESERVE: usize = 8;

/// Bytes that all requests of a process may hold together. Cheap to clone; clones share the budget.
#[derive(Clone)]
pub struct Budget {
    /// For charges of any size.
    shared: Arc<Semaphore>,
    /// For small charges, once the shared part is used up.
    reserve: Arc<Semaphore>,
    /// Permits of `shared`. A larger charge could never be granted.
    capacity: u32,
    metrics: Arc<TransportMetrics>,
}

impl Budget {
    /// A budget of `bytes`, at most 1 TiB.
    #[must_use]
    pub fn new(bytes: usize, metrics: Arc<TransportMetrics>) -> Self {
        let reserve = bytes / RESERVE;
        let capacity = permits(bytes - reserve);
        metrics.budget_limit.set(gauge(bytes));
        Self {
            shared: Arc::new(Semaphore::new(capacity as usize)),
            reserve: Arc::new(Semaphore::new(permits(reserve) as usize)),
            capacity,
            metrics,
        }
    }

    /// Charges `bytes`; none if the budget does not have them now.
    #[must_use]
    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let units = permits(bytes);
        let shared = Arc::clone(&self.shared).try_acquire_many_owned(units).ok();
        let permit = shared.or_else(|| {
            let small = bytes <= SMALL;
            small.then(|| Arc::clone(&self.reserve).try_acquire_many_owned(units).ok()).flatten()
        });
        self.charged(permit)
    }

    /// Charges `bytes`, waiting at most `wait_timeout` for other requests to return theirs; none if they do not in time.
    pub async fn charge(&self, bytes: usize, wait_timeout: Duration) -> Option<Charge> {
        if let Some(charge) = self.try_charge(bytes) {
            return Some(charge);
        }
        let units = permits(bytes);
        if units > self.capacity {
            return self.charged(None);
        }
        let permit = timeout(wait_timeout, Arc::clone(&self.shared).acquire_many_owned(units)).await;
        self.charged(permit.ok().and_then(Result::ok))
    }

    fn charged(&self, permit: Option<OwnedSemaphorePermit>) -> Option<Charge> {
        let Some(permit) = permit else {
            self.metrics.budget_refusals.inc();
            return None;
        };
        let charge = Charge { permit, metrics: Arc::clone(&self.metrics) };
        self.metrics.budget_used.inc_by(gauge(charge.bytes()));
        Some(charge)
    }
}

/// Saturates: a charge that large is refused.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Bytes as the value of a gauge.
fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Bytes charged to the budget; dropping it returns them.
pub struct Charge {
    permit: OwnedSemaphorePermit,
    metrics: Arc<TransportMetrics>,
}

impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.permit.num_permits() * UNIT
    }

    /// Returns what exceeds `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let excess = self.permit.num_permits().saturating_sub(permits(bytes) as usize);
        if let Some(permit) = self.permit.split(excess) {
            drop(Self { permit, metrics: Arc::clone(&self.metrics) });
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.metrics.budget_used.dec_by(gauge(self.bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bytes: usize) -> Budget {
        Budget::new(bytes, Arc::new(TransportMetrics::register(&mut Default::default())))
    }

    #[tokio::test]
    async fn what_is_charged_is_returned_on_drop() {
        let budget = budget(1 << 20);
        let large = budget.try_charge(800 << 10).unwrap();
        assert_eq!(budget.metrics.budget_used.get(), 800 << 10);
        assert!(budget.try_charge(200 << 10).is_none());
        drop(large);
        assert_eq!(budget.metrics.budget_used.get(), 0);
        assert!(budget.try_charge(200 << 10).is_some());
        assert_eq!(budget.metrics.budget_refusals.get(), 1);
    }

    #[tokio::test]
    async fn small_charges_have_a_reserve_that_large_ones_cannot_use() {
        let budget = budget(1 << 20);
        let _all = budget.try_charge((1 << 20) - (1 << 17)).unwrap();
        assert!(budget.try_charge(SMALL + 1).is_none());
        let reserved: Vec<_> = std::iter::from_fn(|| budget.try_charge(SMALL)).collect();
        assert_eq!(reserved.len(), (1 << 17) / SMALL);
    }

    #[tokio::test]
    async fn a_charge_that_shrinks_returns_the_rest() {
        let budget = budget(1 << 20);
        let mut charge = budget.try_charge(800 << 10).unwrap();
        charge.shrink(1000);
        assert_eq!((charge.bytes(), budget.metrics.budget_used.get()), (1024, 1024));
        charge.shrink(2000);
        assert_eq!(charge.bytes(), 1024, "it does not grow");
        assert!(budget.try_charge(800 << 10).is_some());
        drop(charge);
        assert_eq!(budget.metrics.budget_used.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_charge_waits_for_its_share_but_not_for_long() {
        let budget = budget(1 << 20);
        let first = budget.try_charge(800 << 10).unwrap();
        assert!(budget.charge(800 << 10, Duration::from_secs(1)).await.is_none());
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.charge(800 << 10, Duration::from_secs(60)).await.is_some() }
        });
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(first);
        assert!(waiting.await.unwrap());
        assert!(budget.charge(2 << 20, Duration::from_secs(1)).await.is_none(), "more than the budget has");
    }
}
