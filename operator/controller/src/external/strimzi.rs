//! Strimzi 1.2: `Kafka`, `KafkaNodePool`, `KafkaTopic`, `KafkaUser`.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Affinity, ResourceRequirements},
    networking::v1::NetworkPolicyPeer,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ExternalCondition;

/// `Kafka.spec`, as we write it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSpec {
    /// The brokers.
    pub kafka: KafkaBrokers,
    /// The topic and user operators.
    pub entity_operator: EntityOperator,
}

/// The brokers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaBrokers {
    /// Version of Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// Authorization: `{type: simple}`.
    pub authorization: Typed,
    /// `server.properties`.
    pub config: BTreeMap<&'static str, Value>,
}

/// A listener.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its name.
    pub name: &'static str,
    /// Its port.
    pub port: i32,
    /// Type of the listener: `internal`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it uses TLS.
    pub tls: bool,
    /// Authentication of clients.
    pub authentication: Typed,
    /// Pods that the NetworkPolicy admits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_policy_peers: Vec<NetworkPolicyPeer>,
}

/// A setting that consists of a type only.
#[derive(Clone, Debug, Serialize)]
pub struct Typed {
    /// The type.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// Topic and user operators.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntityOperator {
    /// Default settings.
    pub topic_operator: Empty,
    /// Default settings.
    pub user_operator: Empty,
}

/// An empty object, `{}`.
#[derive(Clone, Debug, Serialize)]
pub struct Empty {}

/// `KafkaNodePool.spec`.
#[derive(Clone, Debug, Serialize)]
pub struct NodePoolSpec {
    /// Number of nodes.
    pub replicas: i32,
    /// Roles: `controller`, `broker`.
    pub roles: Vec<&'static str>,
    /// Volumes.
    pub storage: PoolStorage,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// Settings of what Strimzi makes for the pool.
    pub template: PoolTemplate,
}

/// Settings of what Strimzi makes for a pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolTemplate {
    /// Settings of its pods.
    pub pod: PoolPod,
}

/// Settings of the pods of a pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolPod {
    /// On which nodes they run.
    pub affinity: Affinity,
}

/// Volumes of a pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolStorage {
    /// Storage type: `jbod`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The volumes of each node.
    pub volumes: Vec<Volume>,
}

/// One volume of a pool.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its ID.
    pub id: i32,
    /// Volume type: `persistent-claim`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its size.
    pub size: String,
    /// Its StorageClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether it is deleted with the node pool.
    pub delete_claim: bool,
    /// Whether it stores the metadata log: `shared`.
    pub kraft_metadata: &'static str,
}

/// `KafkaTopic.spec`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSpec {
    /// Its name in Kafka.
    pub topic_name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replicas: i32,
    /// Topic configuration.
    pub config: BTreeMap<&'static str, Value>,
}

/// `KafkaUser.spec`.
#[derive(Clone, Debug, Serialize)]
pub struct UserSpec {
    /// How the user authenticates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Typed>,
    /// Permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// Permissions of a user.
#[derive(Clone, Debug, Serialize)]
pub struct Authorization {
    /// Type: `simple`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Access control list.
    pub acls: Vec<Acl>,
}

/// One ACL rule.
#[derive(Clone, Debug, Serialize)]
pub struct Acl {
    /// The resource.
    pub resource: AclResource,
    /// Allowed operations.
    pub operations: Vec<&'static str>,
}

/// The resource of an ACL rule.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AclResource {
    /// Type: `topic`, `group` or `cluster`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Pattern type: `literal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern_type: Option<&'static str>,
}

/// The part of `Kafka.spec` that we read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObservedKafka {
    /// The brokers.
    pub kafka: ObservedBrokers,
}

/// Observed brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObservedBrokers {
    /// Listeners.
    pub listeners: Vec<ObservedListener>,
    /// Authorization; `None` if ACLs are not enforced.
    pub authorization: Option<ObservedType>,
}

/// An observed listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObservedListener {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: i32,
    /// Whether it uses TLS.
    pub tls: bool,
    /// Authentication of clients.
    pub authentication: Option<ObservedType>,
}

/// An observed setting with a type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObservedType {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Status of all four kinds. On failure there is a condition `NotReady` with status `True` and no `Ready`; topics have `Ready` with
/// status `False`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StrimziStatus {
    /// Generation that the status describes.
    pub observed_generation: Option<i64>,
    /// Conditions.
    pub conditions: Vec<ExternalCondition>,
    /// Addresses of the listeners of a Kafka.
    pub listeners: Vec<ListenerStatus>,
}

/// Address of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// `host:port[,host:port…]`.
    pub bootstrap_servers: Option<String>,
}

/// The part of a `KafkaNodePool.spec` that we read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObservedNodePool {
    /// Roles: `controller`, `broker`.
    pub roles: Vec<String>,
}

/// The part of a `KafkaTopic.spec` that we read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObservedTopic {
    /// Its name in Kafka; `None` means the name of the object.
    pub topic_name: Option<String>,
    /// Number of partitions.
    pub partitions: Option<i64>,
    /// Replicas of each partition.
    pub replicas: Option<i64>,
    /// Topic configuration.
    pub config: BTreeMap<String, Value>,
}
