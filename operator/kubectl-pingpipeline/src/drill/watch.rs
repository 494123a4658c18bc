//! Looks at a pipeline from just before a fault until it is well again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::bail;
use kube::Api;
use ping_api::{condition::ConditionType, crd::PingPipeline};
use tokio::{task::JoinSet, time::Instant};

use super::server::{Freshness, Server};

/// How often to look.
const LOOK: Duration = Duration::from_millis(300);
/// How long a pipeline has to be well to count as recovered.
const WELL_FOR: Duration = Duration::from_secs(4);
/// A count is late when it is older, or when the database had to answer.
const LATE: Duration = Duration::from_secs(2);

const CONDITIONS: [ConditionType; 3] = [ConditionType::Ready, ConditionType::Exact, ConditionType::Fresh];

/// What was seen of one fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How long after its beginning `Ready` was last seen not to hold; zero: always seen to hold.
    pub(crate) ready_after: Duration,
    /// The same of `Exact`.
    pub(crate) exact_after: Duration,
    /// Counts asked for while it lasted.
    pub(crate) counts: u32,
    /// Those that were late.
    pub(crate) late: u32,
}

impl Seen {
    /// Whether most of the counts were late while it lasted.
    pub(crate) fn is_felt(&self) -> bool {
        self.late * 2 > self.counts
    }
}

/// Whether all that has to hold holds, for the spec as it is.
pub(crate) fn is_well(pipeline: &PingPipeline) -> bool {
    CONDITIONS.iter().all(|condition| holds(pipeline, *condition))
}

fn holds(pipeline: &PingPipeline, condition: ConditionType) -> bool {
    let name = condition.to_string();
    pipeline.status.as_ref().is_some_and(|status| {
        status.observed_generation == pipeline.metadata.generation
            && status.conditions.iter().any(|known| known.type_ == name && known.status == "True")
    })
}

struct Looks {
    last_bad: [Instant; 3],
    counts: u32,
    late: u32,
}

impl Looks {
    /// An API server that does not answer shows nothing that holds.
    fn look(&mut self, pipeline: Option<&PingPipeline>) {
        for (condition, last_bad) in CONDITIONS.into_iter().zip(&mut self.last_bad) {
            if !pipeline.is_some_and(|pipeline| holds(pipeline, condition)) {
                *last_bad = Instant::now();
            }
        }
    }

    /// No answer is a late one.
    fn count(&mut self, freshness: Option<Freshness>) {
        self.counts += 1;
        self.late += u32::from(freshness.is_none_or(|count| count.from_database || count.lag > LATE));
    }
}

pub(crate) struct Watch {
    since: Instant,
    looks: Arc<Mutex<Looks>>,
    conditions: JoinSet<()>,
    counts: JoinSet<()>,
}

impl Watch {
    pub(crate) fn start(pipelines: Api<PingPipeline>, name: String, server: Server) -> Self {
        let since = Instant::now();
        let looks = Arc::new(Mutex::new(Looks { last_bad: [since; 3], counts: 0, late: 0 }));
        let (mut conditions, mut counts) = (JoinSet::new(), JoinSet::new());
        let shared = Arc::clone(&looks);
        conditions.spawn(async move {
            loop {
                let pipeline = pipelines.get(&name).await.ok();
                lock(&shared).look(pipeline.as_ref());
                tokio::time::sleep(LOOK).await;
            }
        });
        let shared = Arc::clone(&looks);
        counts.spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let freshness = server.freshness().await.ok();
                lock(&shared).count(freshness);
            }
        });
        Self { since, looks, conditions, counts }
    }

    /// The fault is over: from now on it is the recovery that is watched.
    pub(crate) fn happened(&mut self) {
        self.counts.abort_all();
    }

    /// Waits until the pipeline is well for good.
    pub(crate) async fn recovery(self, patience: Duration) -> anyhow::Result<Seen> {
        let happened = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let looks = lock(&self.looks);
            if looks.last_bad.iter().chain([&happened]).all(|bad| bad.elapsed() > WELL_FOR) {
                let [ready_after, exact_after, _] = looks.last_bad.map(|bad| bad - self.since);
                return Ok(Seen { ready_after, exact_after, counts: looks.counts, late: looks.late });
            }
            if happened.elapsed() > patience || self.conditions.is_empty() {
                bail!("not Ready, Exact and Fresh within {patience:?}: see `kubectl pingpipeline status`");
            }
        }
    }
}

fn lock(looks: &Mutex<Looks>) -> MutexGuard<'_, Looks> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_felt_when_most_counts_are_late() {
        let now = Instant::now();
        let mut looks = Looks { last_bad: [now; 3], counts: 0, late: 0 };
        let fresh = Freshness { from_database: false, lag: Duration::from_millis(20) };
        let seen = |looks: &Looks| Seen { counts: looks.counts, late: looks.late, ..Seen::default() };
        assert!(!seen(&looks).is_felt());
        looks.count(Some(fresh));
        assert!(!seen(&looks).is_felt());
        looks.count(None);
        assert!(!seen(&looks).is_felt());
        looks.count(Some(Freshness { from_database: true, ..fresh }));
        looks.count(Some(Freshness { lag: Duration::from_secs(9), ..fresh }));
        assert!(seen(&looks).is_felt());
    }

    #[test]
    fn a_pipeline_is_well_when_all_holds_for_the_spec_as_it_is() {
        let with = |status: &str, observed: i64| {
            let condition = |kind: &str, status: &str| serde_json::json!({ "type": kind, "status": status, "reason": "Ready", "message": "", "lastTransitionTime": "2026-11-21T03:31:51Z" });
            let pipeline: PingPipeline = serde_json::from_value(serde_json::json!({
                "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline", "metadata": { "name": "demo", "generation": 2 },
                "spec": {}, "status": { "observedGeneration": observed,
                    "conditions": [condition("Ready", "True"), condition("Exact", status), condition("Fresh", "True")] },
            }))
            .unwrap();
            is_well(&pipeline)
        };
        assert!(with("True", 2));
        assert!(!with("False", 2) && !with("True", 1));
    }
}
