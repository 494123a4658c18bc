//! What the operator counts.

use std::{sync::atomic::AtomicU64, time::Duration};

use ping_api::{kinds::Dependency, names::Names};
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

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// Everything is as it shall be.
    Settled,
    /// It waits for others.
    Waiting,
    /// The spec is refused.
    Refused,
    /// The pipeline is being deleted.
    Deleting,
    /// It failed and will be tried again.
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
    passes: Family<OutcomeLabel, Histogram, fn() -> Histogram>,
    running: Gauge,
    queued: Gauge,
    repairs: Counter,
    requests: Family<RequestLabel, Counter>,
    served: Family<DependencyLabel, Gauge>,
    leader: Gauge,
    ready: Family<PipelineLabel, Gauge>,
    totals: Family<PipelineLabel, Gauge>,
    last_pass: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Makes the metrics and registers them under `ping_operator_`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            passes: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
            running: Gauge::default(),
            queued: Gauge::default(),
            repairs: Counter::default(),
            requests: Family::default(),
            served: Family::default(),
            leader: Gauge::default(),
            ready: Family::default(),
            totals: Family::default(),
            last_pass: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("ping_operator");
        registry.register_with_unit("reconcile", "Duration of passes", Unit::Seconds, metrics.passes.clone());
        registry.register("reconciles_running", "Passes that run now", metrics.running.clone());
        registry.register("queue_depth", "Events received and not yet taken up by a pass", metrics.queued.clone());
        registry.register("repairs", "Fields put right after somebody else changed them", metrics.repairs.clone());
        registry.register("api_requests", "Answers of the API server; code 0 is none", metrics.requests.clone());
        registry.register("dependency_served", "Whether an API is served", metrics.served.clone());
        registry.register("leader", "Whether this process leads", metrics.leader.clone());
        registry.register("pipeline_ready", "Whether a pipeline is ready", metrics.ready.clone());
        registry.register("pipeline_total", "Acknowledged pings, as a server last said", metrics.totals.clone());
        registry.register_with_unit(
            "last_reconcile_timestamp",
            "When the last pass ended",
            Unit::Seconds,
            metrics.last_pass.clone(),
        );
        metrics
    }

    /// A pass begins.
    pub fn pass_begins(&self) {
        self.running.inc();
        self.queued.set(0);
    }

    /// A pass ended.
    pub fn pass_ended(&self, outcome: Outcome, took: Duration) {
        self.running.dec();
        self.passes.get_or_create(&OutcomeLabel { outcome }).observe(took.as_secs_f64());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.last_pass.set(now.as_secs_f64());
    }

    /// An event asks for a pass.
    pub fn queued(&self) {
        self.queued.inc();
    }

    /// Drift was put right.
    pub fn repaired(&self) {
        self.repairs.inc();
    }

    /// The API server answered; `code` 0 means that it did not.
    pub fn request(&self, method: &str, code: u16) {
        self.requests.get_or_create(&RequestLabel { method: method.to_owned(), code }).inc();
    }

    /// Whether an API is served.
    pub fn dependency(&self, dependency: Dependency, served: bool) {
        let label = DependencyLabel { dependency: format!("{dependency:?}") };
        self.served.get_or_create(&label).set(i64::from(served));
    }

    /// Whether a pipeline is ready.
    pub fn pipeline(&self, names: &Names, ready: bool) {
        self.ready.get_or_create(&label(names)).set(i64::from(ready));
    }

    /// What a server of a pipeline said.
    pub fn total(&self, names: &Names, total: i64) {
        self.totals.get_or_create(&label(names)).set(total);
    }

    /// A pipeline is gone.
    pub fn forget(&self, names: &Names) {
        self.ready.remove(&label(names));
        self.totals.remove(&label(names));
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

fn label(names: &Names) -> PipelineLabel {
    PipelineLabel { namespace: names.namespace.clone(), name: names.pipeline.clone() }
}
