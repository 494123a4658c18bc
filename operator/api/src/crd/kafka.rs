//! `spec.kafka`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKey, postgres::Storage, rule, workload::Resources};

/// No name before and none now, or the same.
const SAME_NAME: &str = "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)";
const CANNOT_BE_RENAMED: &str =
    "a topic cannot be renamed. Keep the name, or delete this pipeline (its data is retained) and create it anew";

/// Kafka: a `cluster` that the operator has Strimzi run, a `clusterRef` to one that Strimzi runs already, or an `external`
/// one. None given means a cluster with all its defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "[has(self.cluster), has(self.clusterRef), has(self.external)].filter(given, given).size() <= 1",
        "give one of spec.kafka.cluster, spec.kafka.clusterRef and spec.kafka.external",
    ),
    rule(
        "has(self.external) == has(oldSelf.external) && has(self.clusterRef) == has(oldSelf.clusterRef) && (!has(self.clusterRef) || self.clusterRef == oldSelf.clusterRef)",
        "a pipeline cannot move to another Kafka: events on their way would be left behind. Create a second PingPipeline on the same external Postgres, or delete this one (its data is retained) and create it anew",
    ),
]))]
pub struct KafkaSpec {
    /// A Strimzi Kafka (KRaft) of the pipeline's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<KafkaCluster>,
    /// A Strimzi Kafka that exists already, maybe in another namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_ref: Option<KafkaClusterRef>,
    /// A Kafka outside of Strimzi. Its topics must exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalKafka>,
    /// The topic that carries the events.
    pub topic: Topic,
    /// The topic for records that cannot be counted.
    pub dead_letter_topic: DeadLetterTopic,
    /// The topic that is told of every minute that is over.
    pub minutes_topic: MinutesTopic,
}

/// A Strimzi Kafka in KRaft mode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("has(self.controllers) == has(oldSelf.controllers)", "controllers cannot be added or taken away later: the cluster's metadata is on them. Delete this pipeline (its data is retained) and create it anew"),
]))]
pub struct KafkaCluster {
    /// Kafka version, e.g. `4.3.1`. Absent: Strimzi's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The nodes that store events. Default 3 with 20Gi each.
    pub brokers: NodePool,
    /// The nodes that hold the cluster's metadata. Absent (default): the brokers do it as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controllers: Option<NodePool>,
}

/// A group of like Kafka nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NodePool {
    /// Nodes. Default 3; from 1 to 99.
    #[schemars(range(min = 1, max = 99))]
    pub replicas: i32,
    /// Volume of each node. Default 20Gi.
    pub storage: Storage,
    /// CPU and memory of each node. Default: requests of 200m and 2Gi, memory limit of 2Gi.
    pub resources: Resources,
}

impl Default for NodePool {
    fn default() -> Self {
        Self { replicas: 3, storage: Storage::of("20Gi"), resources: Resources::of("200m", "2Gi") }
    }
}

/// A Strimzi Kafka that exists already. It must run the topic operator, and the user operator if the listener asks for a
/// password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaClusterRef {
    /// Name of the Kafka.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace. Absent: the pipeline's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Which of its listeners to use. Default `tls`.
    #[serde(default = "KafkaClusterRef::default_listener")]
    #[schemars(length(min = 1, max = 25))]
    pub listener: String,
}

impl KafkaClusterRef {
    fn default_listener() -> String {
        "tls".into()
    }
}

/// A Kafka outside of Strimzi.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalKafka {
    /// `host:port` of one or more brokers.
    #[schemars(length(min = 1, max = 32))]
    pub bootstrap_servers: Vec<String>,
    /// Encrypt the connection. Absent: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExternalTls>,
    /// Log in with a name and a password. Absent: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// Encryption towards an external Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalTls {
    /// Secret key with the PEM of the CA. Absent: the public CAs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// How the password is sent. Default `ScramSha512`.
    #[serde(default)]
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: String,
    /// Secret key with the password.
    pub password: SecretKey,
}

/// How a password is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// As it is; only over TLS.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    #[default]
    ScramSha512,
}

/// The topic that carries the events. Its clean-up policy is always `delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("self.minInSyncReplicas <= self.replicas", "minInSyncReplicas cannot be more than replicas: nothing could be written"),
    rule(SAME_NAME,
        "a topic cannot be renamed: events on their way would be left behind. Keep the name, or delete this pipeline (its data is retained) and create it anew"),
]))]
pub struct Topic {
    /// Name of the topic. Absent: `pings`; with a `clusterRef`, `<namespace>.<pipeline>.pings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub name: Option<String>,
    /// Partitions: at most this many processors share the work. Default 6; from 1 to 1000; it can grow, never shrink.
    #[schemars(range(min = 1, max = 1000), extend("x-kubernetes-validations" = [
        rule("self >= oldSelf", "Kafka cannot take partitions away. Keep the number, or delete this pipeline (its data is retained) and the topic, and create it anew"),
    ]))]
    pub partitions: i32,
    /// Copies of each partition. Default 3; from 1 to 9. To change it later, Strimzi needs Cruise Control.
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// How many copies must have an event before Kafka accepts it. Default 2; from 1 to `replicas`.
    #[schemars(range(min = 1, max = 9))]
    pub min_in_sync_replicas: i32,
    /// Hours that events are kept. Default 168 (7 days); from 1 to 87,600.
    #[schemars(range(min = 1, max = 87_600))]
    pub retention_hours: i64,
}

impl Default for Topic {
    fn default() -> Self {
        Self { name: None, partitions: 6, replicas: 3, min_in_sync_replicas: 2, retention_hours: 168 }
    }
}

/// The topic for records that cannot be counted: one partition, with the replicas of the main topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(SAME_NAME, CANNOT_BE_RENAMED),
]))]
pub struct DeadLetterTopic {
    /// Name of the topic. Absent: the main topic's name and `-dead-letter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub name: Option<String>,
    /// Hours that records are kept. Default 720 (30 days); from 1 to 87,600.
    #[schemars(range(min = 1, max = 87_600))]
    pub retention_hours: i64,
}

impl Default for DeadLetterTopic {
    fn default() -> Self {
        Self { name: None, retention_hours: 720 }
    }
}

/// The topic that is told of every minute that is over: how many events it had, and of how many sources. Compacted, the key is
/// the minute: the last word on it stays. One partition, with the replicas of the main topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(SAME_NAME, CANNOT_BE_RENAMED),
]))]
pub struct MinutesTopic {
    /// Whether it is told. Absent: true with a Kafka that Strimzi runs, false with an `external` one, where the topic must exist
    /// (one partition, `cleanup.policy=compact`). Once true, false leaves the topic and what it holds where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Name of the topic. Absent: `ping-minutes`; with a `clusterRef`, `<namespace>.<pipeline>.ping-minutes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub name: Option<String>,
}
