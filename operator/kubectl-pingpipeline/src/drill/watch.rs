//! Watches a pipeline from just before a fault until it has recovered.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::bail;
use kube::Api;
use ping_api::{condition::ConditionType, crd::PingPipeline};
use tokio::{task::JoinSet, time::Instant};

use super::server::{Freshness, Server};

/// Interval between checks.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Time for which a pipeline must be healthy before the times in the report are final.
const HEALTHY_FOR: Duration = Duration::from_secs(4);
/// A count is late if it is older than this, or if the database answered instead of the cache.
const MAX_LAG: Duration = Duration::from_secs(2);

const CONDITIONS: [ConditionType; 3] = [ConditionType::Ready, ConditionType::Exact, ConditionType::Fresh];

/// Effect of one fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Time from the start of the watch until `Ready` was last not true; zero if it was always true.
    pub(crate) ready_after: Duration,
    /// The same for `Exact`.
    pub(crate) exact_after: Duration,
    /// Number of counts requested during the fault.
    pub(crate) counts: u32,
    /// Number of late counts.
    pub(crate) late: u32,
}

impl Recovery {
    /// True if most counts were late during the fault.
    pub(crate) fn is_disrupted(&self) -> bool {
        self.late * 2 > self.counts
    }
}

/// True if the pipeline is Ready, Exact and Fresh for its current spec.
pub(crate) fn is_healthy(pipeline: &PingPipeline) -> bool {
    CONDITIONS.iter().all(|condition| is_true(pipeline, *condition))
}

fn is_true(pipeline: &PingPipeline, condition: ConditionType) -> bool {
    let name = condition.to_string();
    pipeline.status.as_ref().is_some_and(|status| {
        status.observed_generation == pipeline.metadata.generation
            && status.conditions.iter().any(|known| known.type_ == name && known.status == "True")
    })
}

struct Observations {
    last_unhealthy: [Instant; 3],
    /// The latest total in the status.
    total: i64,
    counts: u32,
    late: u32,
}

impl Observations {
    /// Records the conditions. If the API server does not respond, no condition counts as true.
    fn observe(&mut self, pipeline: Option<&PingPipeline>) {
        for (condition, last_unhealthy) in CONDITIONS.into_iter().zip(&mut self.last_unhealthy) {
            if !pipeline.is_some_and(|pipeline| is_true(pipeline, condition)) {
                *last_unhealthy = Instant::now();
            }
        }
        let status = pipeline.and_then(|pipeline| pipeline.status.as_ref());
        self.total = status.and_then(|status| status.stats.as_ref()).map_or(self.total, |stats| stats.total);
    }

    fn count(&mut self, freshness: Option<Freshness>) {
        self.counts += 1;
        self.late += u32::from(is_late(freshness));
    }
}

/// True if a count was late. A missing response counts as late.
pub(super) fn is_late(freshness: Option<Freshness>) -> bool {
    freshness.is_none_or(|count| count.from_database || count.lag > MAX_LAG)
}

pub(crate) struct Watch {
    since: Instant,
    observations: Arc<Mutex<Observations>>,
    conditions: JoinSet<()>,
    counts: JoinSet<()>,
}

impl Watch {
    pub(crate) fn start(pipelines: Api<PingPipeline>, name: String, server: Server) -> Self {
        let since = Instant::now();
        let observations = Observations { last_unhealthy: [since; 3], total: 0, counts: 0, late: 0 };
        let observations = Arc::new(Mutex::new(observations));
        let (mut conditions, mut counts) = (JoinSet::new(), JoinSet::new());
        let shared = Arc::clone(&observations);
        conditions.spawn(async move {
            loop {
                let pipeline = pipelines.get(&name).await.ok();
                lock(&shared).observe(pipeline.as_ref());
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        let shared = Arc::clone(&observations);
        counts.spawn(async move {
            loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                let freshness = server.freshness().await.ok();
                lock(&shared).count(freshness);
            }
        });
        Self { since, observations, conditions, counts }
    }

    /// The fault is over; from now on, the recovery is watched.
    pub(crate) fn fault_ended(&mut self) {
        self.counts.abort_all();
    }

    /// Waits until the pipeline is healthy by a status with at least `total` events: the number when the fault was over.
    pub(crate) async fn recovery(self, total: i64, timeout: Duration) -> anyhow::Result<Recovery> {
        let ended = Instant::now();
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let observations = lock(&self.observations);
            let mut times = observations.last_unhealthy.iter().chain([&ended]);
            if observations.total >= total && times.all(|time| time.elapsed() > HEALTHY_FOR) {
                let [ready_after, exact_after, _] = observations.last_unhealthy.map(|time| time - self.since);
                return Ok(Recovery { ready_after, exact_after, counts: observations.counts, late: observations.late });
            }
            if ended.elapsed() > timeout || self.conditions.is_empty() {
                bail!("not Ready, Exact and Fresh within {timeout:?}; run `kubectl pingpipeline status`");
            }
        }
    }
}

fn lock(observations: &Mutex<Observations>) -> MutexGuard<'_, Observations> {
    observations.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_disrupts_if_most_counts_are_late() {
        let now = Instant::now();
        let mut observations = Observations { last_unhealthy: [now; 3], total: 0, counts: 0, late: 0 };
        let fresh = Freshness { from_database: false, lag: Duration::from_millis(20) };
        let recovery = |observations: &Observations| Recovery {
            counts: observations.counts,
            late: observations.late,
            ..Recovery::default()
        };
        assert!(!recovery(&observations).is_disrupted());
        observations.count(Some(fresh));
        assert!(!recovery(&observations).is_disrupted());
        observations.count(None);
        assert!(!recovery(&observations).is_disrupted());
        observations.count(Some(Freshness { from_database: true, ..fresh }));
        observations.count(Some(Freshness { lag: Duration::from_secs(9), ..fresh }));
        assert!(recovery(&observations).is_disrupted());
    }

    #[test]
    fn a_pipeline_is_healthy_if_all_conditions_are_true_for_its_current_spec() {
        let with = |status: &str, observed: i64| {
            let condition = |kind: &str, status: &str| serde_json::json!({ "type": kind, "status": status, "reason": "Ready", "message": "", "lastTransitionTime": "2026-11-21T03:31:51Z" });
            let pipeline: PingPipeline = serde_json::from_value(serde_json::json!({
                "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline", "metadata": { "name": "demo", "generation": 2 },
                "spec": {}, "status": { "observedGeneration": observed,
                    "conditions": [condition("Ready", "True"), condition("Exact", status), condition("Fresh", "True")] },
            }))
            .unwrap();
            is_healthy(&pipeline)
        };
        assert!(with("True", 2));
        assert!(!with("False", 2) && !with("True", 1));
    }
}
