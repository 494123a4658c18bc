//! The API that users write: `PingPipeline`. Every default stands here once; the CRD is generated from this file.

pub mod cache;
pub mod kafka;
pub mod postgres;
pub mod sources;
pub mod status;
pub mod workload;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::{
    cache::CacheSpec,
    kafka::KafkaSpec,
    postgres::PostgresSpec,
    sources::SourcesSpec,
    status::PingPipelineStatus,
    workload::{ProcessorSpec, ServerSpec},
};

/// An exact, fresh, highly available event counter: Postgres decides what happened, Kafka carries it, the cache counts
/// it once. `spec: {}` is the shape it was designed for: 3 synchronous Postgres instances, a Kafka of 3, a topic of
/// 6 partitions times 3 replicas, a cache with a replica, 3 servers, 2 processors.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pingpipeline.io",
    version = "v1alpha1",
    kind = "PingPipeline",
    plural = "pingpipelines",
    singular = "pingpipeline",
    shortname = "pp",
    category = "ping",
    namespaced,
    status = "PingPipelineStatus",
    derive = "PartialEq",
    derive = "Default",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name becomes part of Service names: at most 40 characters, lower-case letters, digits and '-', starting with a letter"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Exact", type_ = "string", json_path = ".status.conditions[?(@.type=='Exact')].status"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.figures.total"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.figures.lag"),
    printcolumn(name = "Postgres", type_ = "string", json_path = ".status.components.postgres"),
    printcolumn(name = "Kafka", type_ = "string", json_path = ".status.components.kafka"),
    printcolumn(name = "Cache", type_ = "string", json_path = ".status.components.cache"),
    printcolumn(name = "Server", type_ = "string", json_path = ".status.components.server"),
    printcolumn(name = "Processor", type_ = "string", json_path = ".status.components.processor"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Durable", type_ = "string", json_path = ".status.conditions[?(@.type=='Durable')].status", priority = 1),
    printcolumn(name = "Fresh", type_ = "string", json_path = ".status.conditions[?(@.type=='Fresh')].status", priority = 1),
    printcolumn(name = "Audited", type_ = "string", json_path = ".status.figures.lastAudit", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoints.server", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.durability != 'Exact' || has(self.postgres.external) || !has(self.postgres.cluster) || self.postgres.cluster.instances >= 2",
        "durability: Exact promises that no acknowledged ping is ever lost, but with spec.postgres.cluster.instances: 1 a single disk holds the only copy. Set instances: 3, or, if losing pings together with that disk is acceptable (development), durability: BestEffort",
    ),
    rule(
        "self.durability != 'Exact' || has(self.postgres.external) || !has(self.postgres.cluster) || (self.postgres.cluster.synchronous.number >= 1 && self.postgres.cluster.synchronous.dataDurability == 'Required')",
        "durability: Exact needs every ping on a second Postgres instance before it is acknowledged: set spec.postgres.cluster.synchronous to {number: 1, dataDurability: Required}, or durability: BestEffort",
    ),
    rule(
        "self.durability != 'Exact' || has(self.kafka.external) || (self.kafka.topic.replicas >= 3 && self.kafka.topic.minInSyncReplicas >= 2)",
        "durability: Exact needs spec.kafka.topic.replicas of at least 3 and minInSyncReplicas of at least 2, so that one lost broker loses nothing; or set durability: BestEffort",
    ),
    rule(
        "self.durability != 'Exact' || !has(self.kafka.cluster) || self.kafka.cluster.brokers.replicas >= 3",
        "durability: Exact needs at least 3 brokers in spec.kafka.cluster: a topic has no more replicas than brokers; or set durability: BestEffort",
    ),
]))]
pub struct PingPipelineSpec {
    /// What an acknowledgement is worth. `Exact` (default): no acknowledged ping is lost or counted twice, whatever single
    /// machine dies; settings that could lose one are refused. `BestEffort`: they are allowed, and the condition `Durable`
    /// says which they are.
    pub durability: Durability,
    /// What happens to the data (Postgres cluster, Kafka cluster, topics, volumes) when this object is deleted. `Retain`
    /// (default) leaves it, and an event says where; a pipeline of the same name takes it up again. `Delete` removes it.
    pub deletion_policy: DeletionPolicy,
    /// True: the operator changes nothing any more, not even to put drift right. What runs keeps running. Default false.
    pub suspend: bool,
    /// True: servers, processors and the cache go to zero and Postgres is hibernated; the data stays. A Kafka cluster keeps
    /// running, for its brokers cannot be scaled to zero. Default false.
    pub hibernate: bool,
    /// Postgres, the store of record.
    pub postgres: PostgresSpec,
    /// Kafka, which carries events from the servers to the processors.
    pub kafka: KafkaSpec,
    /// The cache, which holds the counters. It may be lost at any time: it is rebuilt from Postgres.
    pub cache: CacheSpec,
    /// The servers: they accept pings and answer counts.
    pub server: ServerSpec,
    /// The processors: they count events into the cache.
    pub processor: ProcessorSpec,
    /// What is known per source, and for how long.
    pub sources: SourcesSpec,
    /// Who may talk to whom.
    pub network_policy: NetworkPolicySpec,
    /// Metrics for Prometheus.
    pub monitoring: MonitoringSpec,
}

/// What an acknowledgement is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Durability {
    /// No acknowledged ping is lost or counted twice.
    #[default]
    Exact,
    /// Acknowledged pings may be lost together with a disk or a machine.
    BestEffort,
}

/// What happens to the data at deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The data stays.
    #[default]
    Retain,
    /// The data goes.
    Delete,
}

/// Who may talk to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// True (default): NetworkPolicies in both directions admit exactly the flows of the pipeline.
    pub enabled: bool,
    /// Only pods of namespaces with these labels may call the servers. Empty (default): every pod, and whatever the Service
    /// type lets in from outside.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub client_namespaces: std::collections::BTreeMap<String, String>,
    /// Only pods of namespaces with these labels may scrape the metrics port. Empty (default): every namespace.
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
    /// True (default): PodMonitors are made for servers, processors and Postgres as soon as their CRD is installed.
    pub enabled: bool,
    /// `Fresh` is true while the answer is at most this many milliseconds old. Default 5000; from 100 to 3,600,000.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub fresh_within_ms: i64,
}

impl Default for MonitoringSpec {
    fn default() -> Self {
        Self { enabled: true, fresh_within_ms: 5000 }
    }
}

/// A key of a Secret in the pipeline's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// One CEL rule as the API server reads it.
pub(crate) fn rule(expression: &str, message: &str) -> Value {
    json!({ "rule": expression, "message": message })
}
