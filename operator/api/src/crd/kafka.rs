//! `spec.kafka`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    postgres::Storage,
    schema::{SecretKey, rule},
    workload::Resources,
};

/// The name has not changed: it was absent and still is, or it has the same value.
const SAME_NAME: &str = "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)";
const CANNOT_BE_RENAMED: &str =
    "a topic cannot be renamed. Keep the name, or delete this pipeline (its data is retained) and create it again";

/// Kafka: a `cluster` managed by Strimzi, a `clusterRef` to an existing Strimzi cluster, or an `external` Kafka. If none is
/// set, a cluster with default settings is created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "[has(self.cluster), has(self.clusterRef), has(self.external)].filter(given, given).size() <= 1",
        "set only one of spec.kafka.cluster, spec.kafka.clusterRef and spec.kafka.external",
    ),
    rule(
        "has(self.external) == has(oldSelf.external) && has(self.clusterRef) == has(oldSelf.clusterRef) && (!has(self.clusterRef) || self.clusterRef == oldSelf.clusterRef)",
        "a pipeline cannot move to another Kafka, because events in transit would be lost. Create a second PingPipeline on the same external Postgres, or delete this one (its data is retained) and create it again",
    ),
]))]
pub struct KafkaSpec {
    /// A Strimzi Kafka cluster (KRaft mode) for this pipeline only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<KafkaCluster>,
    /// An existing Strimzi Kafka cluster, possibly in another namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_ref: Option<KafkaClusterRef>,
    /// A Kafka cluster that Strimzi does not manage. Its topics must exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalKafka>,
    /// The topic that carries the events.
    pub topic: Topic,
    /// The topic for records that cannot be processed.
    pub dead_letter_topic: DeadLetterTopic,
    /// The topic for per-minute summaries.
    pub minutes_topic: MinutesTopic,
}

/// A Strimzi Kafka cluster in KRaft mode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("has(self.controllers) == has(oldSelf.controllers)", "controllers cannot be added or removed later, because they hold the cluster's metadata. Keep them as they are, or create a PingPipeline with another name"),
]))]
pub struct KafkaCluster {
    /// Kafka version, e.g. `4.3.1`. Absent: Strimzi's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Nodes that store events. Default: 3 nodes with 20Gi each.
    pub brokers: NodePool,
    /// Dedicated nodes for the cluster's metadata. Absent (default): the brokers hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controllers: Option<NodePool>,
}

/// A group of identical Kafka nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NodePool {
    /// Number of nodes. Default 3; 1 to 99.
    #[schemars(range(min = 1, max = 99))]
    pub replicas: i32,
    /// Volume of each node. Default 20Gi.
    pub storage: Storage<20>,
    /// CPU and memory of each node. Default: requests of 200m CPU and 2Gi memory, memory limit of 2Gi.
    pub resources: Resources,
}

impl Default for NodePool {
    fn default() -> Self {
        Self { replicas: 3, storage: Storage::default(), resources: Resources::of("200m", "2Gi") }
    }
}

/// An existing Strimzi Kafka cluster. It must run the topic operator, and the user operator if its listener requires
/// authentication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaClusterRef {
    /// Name of the Kafka resource.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Namespace of the Kafka resource. Absent: the pipeline's namespace. Another namespace needs a PingReferenceGrant there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// Name of the listener to use. Default `tls`.
    #[serde(default = "KafkaClusterRef::default_listener")]
    #[schemars(length(min = 1, max = 25))]
    pub listener: String,
}

impl KafkaClusterRef {
    fn default_listener() -> String {
        "tls".into()
    }
}

/// A Kafka cluster that Strimzi does not manage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalKafka {
    /// Addresses of one or more brokers, as `host:port`.
    #[schemars(length(min = 1, max = 32), inner(length(max = 300)), extend("x-kubernetes-validations" = [
        rule(
            "self.all(address, address.matches('^([A-Za-z0-9._-]+|[[][0-9A-Fa-f:.]+[]]):[0-9]{1,5}$'))",
            "each address is host:port, such as broker:9092. Add what is missing",
        ),
    ]))]
    pub bootstrap_servers: Vec<String>,
    /// TLS settings. Absent: connections are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExternalTls>,
    /// SASL credentials. Absent: no authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// TLS settings for an external Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalTls {
    /// Secret key that holds the CA certificate (PEM). Absent: the public CAs are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
}

/// SASL credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// SASL mechanism. Default `ScramSha512`.
    #[serde(default)]
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: String,
    /// Secret key that holds the password.
    pub password: SecretKey,
}

/// SASL mechanism.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// PLAIN: the password is sent unencrypted, so use it over TLS only.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    #[default]
    ScramSha512,
}

/// The topic that carries the events. Its cleanup policy is always `delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("self.minInSyncReplicas <= self.replicas", "minInSyncReplicas cannot exceed replicas: Kafka would accept no writes"),
    rule(SAME_NAME,
        "a topic cannot be renamed, because events in transit would be lost. Keep the name, or delete this pipeline (its data is retained) and create it again"),
]))]
pub struct Topic {
    /// Name of the topic. Absent: `pings`, or with a `clusterRef`: `<namespace>.<pipeline>.pings`. With a `clusterRef`, a topic whose
    /// name does not start with `<namespace>.<pipeline>.` must exist as a KafkaTopic and is never changed or deleted; in another
    /// namespace it also needs a PingReferenceGrant that names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub name: Option<String>,
    /// Number of partitions, which is also the maximum number of processors. Default 6; 1 to 1000; cannot be reduced.
    #[schemars(range(min = 1, max = 1000), extend("x-kubernetes-validations" = [
        rule("self >= oldSelf", "Kafka cannot remove partitions. Keep the number, or delete this pipeline (its data is retained) and the topic, and create the pipeline again"),
    ]))]
    pub partitions: i32,
    /// Replicas of each partition. Default 3; 1 to 9. Strimzi needs Cruise Control to change it later.
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// Number of replicas that must store an event before Kafka accepts it. Default 2; 1 to `replicas`.
    #[schemars(range(min = 1, max = 9))]
    pub min_in_sync_replicas: i32,
    /// Hours that events are kept. Default 168 (7 days); 1 to 87,600.
    #[schemars(range(min = 1, max = 87_600))]
    pub retention_hours: i64,
}

impl Default for Topic {
    fn default() -> Self {
        Self { name: None, partitions: 6, replicas: 3, min_in_sync_replicas: 2, retention_hours: 168 }
    }
}

/// The topic for records that cannot be processed. It has one partition and as many replicas as the main topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(SAME_NAME, CANNOT_BE_RENAMED),
]))]
pub struct DeadLetterTopic {
    /// Name of the topic. Absent: the main topic's name followed by `-dead-letter`, or with a `clusterRef`:
    /// `<namespace>.<pipeline>.pings-dead-letter`. For other names see `spec.kafka.topic.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub name: Option<String>,
    /// Hours that records are kept. Default 720 (30 days); 1 to 87,600.
    #[schemars(range(min = 1, max = 87_600))]
    pub retention_hours: i64,
}

impl Default for DeadLetterTopic {
    fn default() -> Self {
        Self { name: None, retention_hours: 720 }
    }
}

/// The topic for per-minute summaries: the number of events in each closed minute, and of how many sources. It is compacted and
/// keyed by minute, so the latest summary of each minute is kept. It has one partition and as many replicas as the main topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(SAME_NAME, CANNOT_BE_RENAMED),
]))]
pub struct MinutesTopic {
    /// Whether summaries are published. Absent: true with a Strimzi cluster; false with an `external` Kafka, where the topic must
    /// exist (one partition, `cleanup.policy=compact`). Changing true to false keeps the topic and its records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Name of the topic. Absent: `ping-minutes`, or with a `clusterRef`: `<namespace>.<pipeline>.ping-minutes`. For other names see
    /// `spec.kafka.topic.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub name: Option<String>,
}
