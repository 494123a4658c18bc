//! Quotas, for one process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{state::AdmittedNames, store::MemoryStore};
use ping_core::{BucketClaim, BucketGrant, Day, until_next_day};
use ping_ports::{Name, NamesAdmitted, QuotaStore, StoreError};
use ping_segments::{NamesInViews, SegmentQuery};

/// Whether the budget has admitted the name today or yesterday; a kind of all sources, on any day.
fn has_admitted(days: &AdmittedNames, today: Day, budget: &str, name: &Name) -> bool {
    let first = if name.is_of_all_sources() { Day(i64::MIN) } else { today.back(1) };
    let mut counted = days.range(first..);
    counted.any(|(_, budgets)| budgets.get(budget).is_some_and(|names| names.contains(name)))
}

#[async_trait]
impl QuotaStore for MemoryStore {
    async fn settle(&self, claims: &[(Arc<str>, BucketClaim)]) -> Result<Vec<BucketGrant>, StoreError> {
        let now = self.clock.now();
        let buckets = &mut self.state.lock().quotas.buckets;
        let settle = |(bucket, claim): &(Arc<str>, BucketClaim)| {
            let full_at = buckets.entry(Arc::clone(bucket)).or_insert(0);
            let (grant, next) = claim.settle_at(*full_at, now);
            *full_at = next;
            grant
        };
        Ok(claims.iter().map(settle).collect())
    }

    async fn known_names(&self, names: &[(Arc<str>, Name)]) -> Result<Vec<bool>, StoreError> {
        let today = Day::of(self.clock.now());
        let query = SegmentQuery::kinds(names.iter().map(|(_, name)| name.parts().0));
        let state = self.state.lock();
        let Some(views) = &state.views else { return Ok(vec![true; names.len()]) };
        let segments = views.select(|place| query.contains(place));
        let in_views = NamesInViews::new(&segments).map_err(|error| StoreError(error.into()))?;
        let known = |(budget, name): &(Arc<str>, Name)| {
            let (source, kind) = name.parts();
            in_views.contains(source, kind) || has_admitted(&state.quotas.names, today, budget, name)
        };
        Ok(names.iter().map(known).collect())
    }

    async fn admit_names(&self, budget: &str, per_day: u64, names: &[Name]) -> Result<NamesAdmitted, StoreError> {
        let now = self.clock.now();
        let today = Day::of(now);
        let days = &mut self.state.lock().quotas.names;
        let fresh: Vec<_> = names.iter().filter(|name| !has_admitted(days, today, budget, name)).cloned().collect();
        let admitted_today = days.entry(today).or_default().entry(budget.into()).or_default();
        let admitted = (admitted_today.len() + fresh.len()) as u64 <= per_day || fresh.is_empty();
        if admitted {
            admitted_today.extend(fresh);
        }
        Ok(NamesAdmitted {
            admitted,
            used: admitted_today.len() as u64,
            day_ends_in: Duration::from_millis(until_next_day(now).unsigned_abs()),
        })
    }

    async fn forget_expired_quotas(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let quotas = &mut self.state.lock().quotas;
        quotas.buckets.retain(|_, full_at| *full_at > now.saturating_mul(1_000_000));
        for (_, budgets) in quotas.names.range_mut(..Day::of(now).back(1)) {
            for names in budgets.values_mut() {
                names.retain(Name::is_of_all_sources);
            }
            budgets.retain(|_, names| !names.is_empty());
        }
        quotas.names.retain(|_, budgets| !budgets.is_empty());
        Ok(())
    }
}
