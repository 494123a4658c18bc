//! Metrics of the operator.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use ping_api::kinds::Dependency;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{index::PipelineName, storage::Estimate};

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// The cluster matches the desired state, and the pipeline is ready.
    Settled,
    /// The pipeline waits for other operators or for pods.
    Waiting,
    /// The spec was rejected.
    Refused,
    /// The pipeline is being deleted.
    Deleting,
    /// The reconcile failed and will be retried.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    method: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DependencyLabel {
    dependency: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabel {
    namespace: String,
    name: String,
}

/// Counters, gauges and histograms of the operator.
#[derive(Debug)]
pub struct Metrics {
    reconciles: Family<OutcomeLabel, Histogram, fn() -> Histogram>,
    running: Gauge,
    /// Pipelines that were triggered and not reconciled since. The controller merges triggers of the same pipeline, so this is
    /// a set.
    queue: Mutex<BTreeSet<PipelineName>>,
    queue_depth: Gauge,
    repairs: Counter,
    requests: Family<RequestLabel, Counter>,
    served: Family<DependencyLabel, Gauge>,
    leader: Gauge,
    ready: Family<PipelineLabel, Gauge>,
    backed_up: Family<PipelineLabel, Gauge>,
    totals: Family<PipelineLabel, Gauge>,
    storage_low: Family<PipelineLabel, Gauge>,
    storage_left: Family<PipelineLabel, Gauge<f64, AtomicU64>>,
    last_reconcile: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Creates the metrics and registers them with the prefix `ping_operator_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
            running: Gauge::default(),
            queue: Mutex::default(),
            queue_depth: Gauge::default(),
            repairs: Counter::default(),
            requests: Family::default(),
            served: Family::default(),
            leader: Gauge::default(),
            ready: Family::default(),
            backed_up: Family::default(),
            totals: Family::default(),
            storage_low: Family::default(),
            storage_left: Family::default(),
            last_reconcile: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("ping_operator");
        registry.register_with_unit("reconcile", "Duration of reconciles", Unit::Seconds, metrics.reconciles.clone());
        registry.register("reconciles_running", "Reconciles in progress", metrics.running.clone());
        registry.register("queue_depth", "PingPipelines waiting for a reconcile", metrics.queue_depth.clone());
        registry.register("repairs", "Fields restored after another client changed them", metrics.repairs.clone());
        registry.register(
            "api_requests",
            "Requests to the API server by method and status code; code 0 means no response",
            metrics.requests.clone(),
        );
        registry.register("dependency_served", "Whether the API server serves an API", metrics.served.clone());
        registry.register("leader", "Whether this process is the leader", metrics.leader.clone());
        metrics.register_pipelines(registry);
        registry.register_with_unit(
            "last_reconcile_timestamp",
            "Time at which the last reconcile ended",
            Unit::Seconds,
            metrics.last_reconcile.clone(),
        );
        metrics
    }

    fn register_pipelines(&self, registry: &mut Registry) {
        registry.register(
            "pipeline_ready",
            "Whether a pipeline is ready, or while it is suspended, whether its components are; absent while it hibernates",
            self.ready.clone(),
        );
        registry.register(
            "pipeline_backed_up",
            "Whether backups are made when they are due; absent without spec.postgres.cluster.backup, and while the pipeline hibernates",
            self.backed_up.clone(),
        );
        registry.register("pipeline_total", "Acknowledged events, as last reported by a server", self.totals.clone());
        registry.register(
            "pipeline_storage_low",
            "Whether the volume of Postgres has less than 10 % or seven days left; absent while that is not known",
            self.storage_low.clone(),
        );
        registry.register(
            "pipeline_storage_left_ratio",
            "Share of the volume of Postgres that is left, after what the write-ahead log may need and a margin",
            self.storage_left.clone(),
        );
    }

    /// A reconcile of `pipeline` starts.
    pub fn reconcile_started(&self, pipeline: &PipelineName) {
        self.running.inc();
        self.dequeued(pipeline);
    }

    /// A reconcile ended.
    pub fn reconcile_finished(&self, outcome: Outcome, duration: Duration) {
        self.running.dec();
        self.reconciles.get_or_create(&OutcomeLabel { outcome }).observe(duration.as_secs_f64());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.last_reconcile.set(now.as_secs_f64());
    }

    /// A reconcile of `pipeline` was triggered.
    pub fn queued(&self, pipeline: PipelineName) {
        self.change_queue(|queue| queue.insert(pipeline));
    }

    /// `pipeline` no longer waits for a reconcile.
    pub fn dequeued(&self, pipeline: &PipelineName) {
        self.change_queue(|queue| queue.remove(pipeline));
    }

    fn change_queue(&self, change: impl FnOnce(&mut BTreeSet<PipelineName>) -> bool) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut queue) {
            self.queue_depth.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
        }
    }

    /// Drift was repaired.
    pub fn repaired(&self) {
        self.repairs.inc();
    }

    /// A request to the API server ended with `code`; 0 means that there was no response.
    pub fn request(&self, method: &str, code: u16) {
        self.requests.get_or_create(&RequestLabel { method: method.to_owned(), code }).inc();
    }

    /// Whether an API is served.
    pub fn dependency(&self, dependency: Dependency, served: bool) {
        let label = DependencyLabel { dependency: format!("{dependency:?}") };
        self.served.get_or_create(&label).set(i64::from(served));
    }

    /// Whether a pipeline is ready; `None` removes the metric.
    pub fn ready(&self, pipeline: &PipelineName, ready: Option<bool>) {
        set(&self.ready, pipeline, ready);
    }

    /// Whether backups of a pipeline are made when they are due; `None` removes the metric.
    pub fn backed_up(&self, pipeline: &PipelineName, backed_up: Option<bool>) {
        set(&self.backed_up, pipeline, backed_up);
    }

    /// The count that a server of a pipeline reported.
    pub fn total(&self, pipeline: &PipelineName, total: i64) {
        self.totals.get_or_create(&label(pipeline)).set(total);
    }

    /// How full the volume of Postgres is. Without an estimate, the last one remains: a full volume is why there is none.
    pub fn storage(&self, pipeline: &PipelineName, estimate: Option<&Estimate>) {
        if let Some(estimate) = estimate {
            let label = label(pipeline);
            self.storage_low.get_or_create(&label).set(i64::from(estimate.condition().is_met()));
            self.storage_left.get_or_create(&label).set(estimate.share_left());
        }
    }

    /// Removes the metrics of a deleted pipeline.
    pub fn forget(&self, pipeline: &PipelineName) {
        self.ready.remove(&label(pipeline));
        self.backed_up.remove(&label(pipeline));
        self.totals.remove(&label(pipeline));
        self.storage_low.remove(&label(pipeline));
        self.storage_left.remove(&label(pipeline));
    }

    /// Whether this process is the leader.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

fn set(gauges: &Family<PipelineLabel, Gauge>, pipeline: &PipelineName, value: Option<bool>) {
    match value {
        Some(value) => drop(gauges.get_or_create(&label(pipeline)).set(i64::from(value))),
        None => drop(gauges.remove(&label(pipeline))),
    }
}

fn label(pipeline: &PipelineName) -> PipelineLabel {
    PipelineLabel { namespace: pipeline.namespace.clone(), name: pipeline.name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(name: &str) -> PipelineName {
        PipelineName { namespace: "default".into(), name: name.into() }
    }

    #[test]
    fn a_reconcile_of_one_pipeline_leaves_the_others_in_the_queue() {
        let metrics = Metrics::register(&mut Registry::default());
        for name in ["one", "two", "two", "three"] {
            metrics.queued(pipeline(name));
        }
        assert_eq!(metrics.queue_depth.get(), 3, "triggers of the same pipeline are merged");
        metrics.reconcile_started(&pipeline("two"));
        assert_eq!(metrics.queue_depth.get(), 2);
        metrics.reconcile_finished(Outcome::Settled, Duration::ZERO);
        metrics.reconcile_started(&pipeline("four"));
        assert_eq!(metrics.queue_depth.get(), 2, "a reconcile without a trigger, such as a retry, was never queued");
        metrics.queued(pipeline("four"));
        assert_eq!(metrics.queue_depth.get(), 3, "triggered again during its reconcile");
        metrics.dequeued(&pipeline("one"));
        assert_eq!(metrics.queue_depth.get(), 2, "deleted while it waited");
    }
}
