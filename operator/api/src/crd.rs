//! The custom resource `PingPipeline`. Every default is defined here, once; the CRD is generated from these types.

pub mod access;
pub mod backup;
pub mod cache;
pub mod events;
pub mod kafka;
pub mod postgres;
pub mod quotas;
pub(crate) mod schema;
pub mod sources;
pub mod status;
pub mod tls;
pub mod tracing;
pub mod workload;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::schema::SecretKey;
use self::{
    cache::CacheSpec,
    events::EventsSpec,
    kafka::KafkaSpec,
    postgres::PostgresSpec,
    schema::rule,
    sources::SourcesSpec,
    status::PingPipelineStatus,
    tracing::TracingSpec,
    workload::{ProcessorSpec, ServerSpec},
};

/// Desired state of the pipeline. `spec: {}` is a production setup: 3 synchronous Postgres instances, 3 Kafka brokers, a topic
/// with 6 partitions and 3 replicas, a cache with one replica, 3 servers and 2 processors.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pingpipeline.io",
    version = "v1alpha1",
    kind = "PingPipeline",
    plural = "pingpipelines",
    singular = "pingpipeline",
    shortname = "pp",
    doc = "A PingPipeline is an exactly-once event counter: servers store each event in Postgres before they acknowledge it, Kafka carries it to the processors, and the processors count it once in the cache. The operator creates and maintains all of these parts.",
    category = "ping",
    namespaced,
    status = "PingPipelineStatus",
    derive = "PartialEq",
    derive = "Default",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name becomes part of Service names: at most 40 characters, lower-case letters, digits and '-', starting with a letter"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Exact", type_ = "string", json_path = ".status.conditions[?(@.type=='Exact')].status"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.stats.total"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.stats.lag"),
    printcolumn(name = "Postgres", type_ = "string", json_path = ".status.components.postgres"),
    printcolumn(name = "Kafka", type_ = "string", json_path = ".status.components.kafka"),
    printcolumn(name = "Cache", type_ = "string", json_path = ".status.components.cache"),
    printcolumn(name = "Server", type_ = "string", json_path = ".status.components.server"),
    printcolumn(name = "Processor", type_ = "string", json_path = ".status.components.processor"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Durable", type_ = "string", json_path = ".status.conditions[?(@.type=='Durable')].status", priority = 1),
    printcolumn(name = "Authenticated", type_ = "string", json_path = ".status.conditions[?(@.type=='Authenticated')].status", priority = 1),
    printcolumn(name = "Encrypted", type_ = "string", json_path = ".status.conditions[?(@.type=='Encrypted')].status", priority = 1),
    printcolumn(name = "Fresh", type_ = "string", json_path = ".status.conditions[?(@.type=='Fresh')].status", priority = 1),
    printcolumn(name = "Audited", type_ = "string", json_path = ".status.stats.lastAudit", priority = 1),
    printcolumn(name = "Views", type_ = "string", json_path = ".status.stats.viewsAudit", priority = 1),
    printcolumn(name = "Storage", type_ = "string", json_path = ".status.stats.storage", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoints.server", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.durability != 'Exact' || has(self.postgres.external) || !has(self.postgres.cluster) || self.postgres.cluster.instances >= 2",
        "durability: Exact guarantees that no acknowledged event is lost, but with spec.postgres.cluster.instances: 1 a single disk holds the only copy. Set instances: 3. If you can accept losing events with that disk (in development), set durability: BestEffort",
    ),
    rule(
        "self.durability != 'Exact' || has(self.postgres.external) || !has(self.postgres.cluster) || (self.postgres.cluster.synchronous.number >= 1 && self.postgres.cluster.synchronous.dataDurability == 'Required')",
        "durability: Exact requires every event to be on a second Postgres instance before it is acknowledged. Set spec.postgres.cluster.synchronous to {number: 1, dataDurability: Required}, or set durability: BestEffort",
    ),
    rule(
        "self.durability != 'Exact' || has(self.kafka.external) || (self.kafka.topic.replicas >= 3 && self.kafka.topic.minInSyncReplicas >= 2)",
        "durability: Exact requires spec.kafka.topic.replicas of at least 3 and minInSyncReplicas of at least 2, so that losing one broker loses no events. Otherwise set durability: BestEffort",
    ),
    rule(
        "self.durability != 'Exact' || !has(self.kafka.cluster) || self.kafka.cluster.brokers.replicas >= 3",
        "durability: Exact requires at least 3 brokers in spec.kafka.cluster, because a topic cannot have more replicas than there are brokers. Otherwise set durability: BestEffort",
    ),
]))]
pub struct PingPipelineSpec {
    /// Guarantee behind an acknowledgement. `Exact` (default): no acknowledged event is lost or counted twice, even if any
    /// single Postgres instance or Kafka broker fails; settings that could lose an event are rejected. `BestEffort`: such
    /// settings are allowed, and the condition `Durable` lists them.
    pub durability: Durability,
    /// What happens to the data (Postgres cluster, Kafka cluster, topics, volumes) when this object is deleted. `Retain`
    /// (default) keeps it, and an event lists it; a new PingPipeline with the same name uses it again. `Delete` removes it.
    pub deletion_policy: DeletionPolicy,
    /// True pauses reconciliation: the operator changes nothing and does not repair drift. Running pods keep running. Default
    /// false.
    pub suspend: bool,
    /// True scales servers, processors and the cache to zero and hibernates Postgres. The data is kept. A Kafka cluster keeps
    /// running, because its brokers cannot be scaled to zero. Default false.
    pub hibernate: bool,
    /// Postgres, the system of record.
    pub postgres: PostgresSpec,
    /// Kafka, which carries events from servers to processors.
    pub kafka: KafkaSpec,
    /// The cache, which holds the counters. If it is lost, it is rebuilt from Postgres.
    pub cache: CacheSpec,
    /// The servers, which accept events and answer queries.
    pub server: ServerSpec,
    /// The processors, which count events in the cache.
    pub processor: ProcessorSpec,
    /// How long raw events are kept.
    pub events: EventsSpec,
    /// Status rule for sources, and retention of per-source data. A source is whatever an event says it comes from.
    pub sources: SourcesSpec,
    /// Network policies of the pipeline.
    pub network_policy: NetworkPolicySpec,
    /// Metrics for Prometheus.
    pub monitoring: MonitoringSpec,
    /// Traces of calls, for an OpenTelemetry collector.
    pub tracing: TracingSpec,
}

/// Guarantee behind an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Durability {
    /// No acknowledged event is lost or counted twice.
    #[default]
    Exact,
    /// Acknowledged events may be lost if a disk or a machine fails.
    BestEffort,
}

/// What happens to the data on deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Keep the data.
    #[default]
    Retain,
    /// Delete the data.
    Delete,
}

/// Network policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// True (default) creates NetworkPolicies that allow only the traffic that the pipeline needs, in both directions.
    pub enabled: bool,
    /// Labels of the namespaces whose pods may call the servers, for example `kubernetes.io/metadata.name: shop`. Only that label cannot
    /// be set by others. Empty (default): all pods, and any external clients that the Service type admits.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub client_namespaces: std::collections::BTreeMap<String, String>,
    /// Labels of the namespaces whose pods may scrape metrics, for example `kubernetes.io/metadata.name: monitoring`. Empty (default):
    /// the pipeline's namespace only.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub metrics_namespaces: std::collections::BTreeMap<String, String>,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self { enabled: true, client_namespaces: Default::default(), metrics_namespaces: Default::default() }
    }
}

/// Metrics for Prometheus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MonitoringSpec {
    /// True (default) creates PodMonitors for servers, processors and Postgres once the PodMonitor CRD is installed.
    pub enabled: bool,
    /// Maximum age, in milliseconds, of a count that still makes the condition `Fresh` true. Default 5000; 100 to 3,600,000.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub fresh_within_ms: i64,
}

impl Default for MonitoringSpec {
    fn default() -> Self {
        Self { enabled: true, fresh_within_ms: 5000 }
    }
}
