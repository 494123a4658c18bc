//! Metric handles of the quotas, registered once.

use std::sync::Arc;

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::{Demand, Limit, QuotaRefusal};

type ByQuota = [(&'static str, Arc<str>); 1];
type ByLimit = [(&'static str, Arc<str>); 2];

/// The metrics of the quotas. Labels are the names in the access policy.
#[derive(Debug)]
pub struct QuotaMetrics {
    admitted: Family<ByQuota, Counter>,
    refused: Family<ByLimit, Counter>,
    delayed: Family<ByQuota, Counter>,
    refused_names: Family<[(&'static str, &'static str); 1], Counter>,
    pub(crate) exchanges: Counter,
    pub(crate) errors: Counter,
    limits: [Arc<str>; 4],
}

impl QuotaMetrics {
    /// Creates the handles and registers them under `ping_quota_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let admitted = Family::default();
        registry.register("ping_quota_admitted_events", "Events within a quota", admitted.clone());
        let refused = Family::default();
        registry.register("ping_quota_refused_events", "Events refused because of a quota", refused.clone());
        let delayed = Family::default();
        let help = "Batches of streams that waited because of a quota";
        registry.register("ping_quota_delayed_batches", help, delayed.clone());
        let refused_names = Family::default();
        let help = "Calls refused because of a limit of names that holds for all callers";
        registry.register("ping_quota_refused_names", help, refused_names.clone());
        for limit in [Limit::AllSources, Limit::KindNames] {
            // Exports 0 for what has not occurred, so that queries find every series.
            let _ = refused_names.get_or_create(&[("limit", limit.as_str())]);
        }
        let (exchanges, errors) = (Counter::default(), Counter::default());
        registry.register("ping_quota_exchanges", "Calls to the store about quotas", exchanges.clone());
        registry.register("ping_quota_store_errors", "Failed calls to the store about quotas", errors.clone());
        let limits = Limit::ALL.map(|limit| limit.as_str().into());
        Self { admitted, refused, delayed, refused_names, exchanges, errors, limits }
    }

    pub(crate) fn count_admitted(&self, demand: &Demand) {
        for (quota, events) in &demand.events {
            let labels = [("quota", Arc::clone(quota))];
            if let Some(counter) = self.admitted.get(&labels) {
                counter.inc_by(*events);
                continue;
            }
            self.admitted.get_or_create(&labels).inc_by(*events);
            // Exports 0 for what has not occurred, so that queries find every series.
            let _ = self.delayed.get_or_create(&labels);
            for limit in Limit::ALL {
                let _ = self.refused.get_or_create(&self.by_limit(quota, limit));
            }
        }
    }

    pub(crate) fn count_refused(&self, demand: &Demand, refusal: &QuotaRefusal) {
        let (quota, limit) = match refusal {
            QuotaRefusal::Exceeded { quota, limit, .. } | QuotaRefusal::TooLarge { quota, limit, .. } => (quota, limit),
            QuotaRefusal::TooManySources { .. } => return self.count_refused_names(Limit::AllSources),
            QuotaRefusal::TooManyKindNames { .. } => return self.count_refused_names(Limit::KindNames),
            QuotaRefusal::TooManyBuckets { .. } | QuotaRefusal::Unavailable(_) | QuotaRefusal::ShuttingDown => return,
        };
        let events = demand.events.iter().find(|(covered, _)| covered == quota).map_or(0, |(_, events)| *events);
        self.refused.get_or_create(&self.by_limit(quota, *limit)).inc_by(events);
    }

    fn count_refused_names(&self, limit: Limit) {
        self.refused_names.get_or_create(&[("limit", limit.as_str())]).inc();
    }

    pub(crate) fn count_delayed(&self, quota: &Arc<str>) {
        self.delayed.get_or_create(&[("quota", Arc::clone(quota))]).inc();
    }

    fn by_limit(&self, quota: &Arc<str>, limit: Limit) -> ByLimit {
        [("quota", Arc::clone(quota)), ("limit", Arc::clone(&self.limits[limit as usize]))]
    }
}
