//! Strimzi 1.2: `Kafka`, `KafkaNodePool`, `KafkaTopic`, `KafkaUser`.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1::ResourceRequirements, networking::v1::NetworkPolicyPeer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Said;

/// `Kafka.spec`, as we write it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSpec {
    /// The brokers.
    pub kafka: KafkaBrokers,
    /// Topic and user operators.
    pub entity_operator: EntityOperator,
}

/// The brokers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaBrokers {
    /// Version of Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Ways in.
    pub listeners: Vec<Listener>,
    /// Who may do what: `{type: simple}`.
    pub authorization: Typed,
    /// `server.properties`.
    pub config: BTreeMap<&'static str, Value>,
}

/// A way in.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its name.
    pub name: &'static str,
    /// Its port.
    pub port: i32,
    /// `internal`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Encrypted?
    pub tls: bool,
    /// Login.
    pub authentication: Typed,
    /// Who gets in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_policy_peers: Vec<NetworkPolicyPeer>,
}

/// Something chosen by its type alone.
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
    /// With its defaults.
    pub topic_operator: Empty,
    /// With its defaults.
    pub user_operator: Empty,
}

/// `{}`.
#[derive(Clone, Debug, Serialize)]
pub struct Empty {}

/// `KafkaNodePool.spec`.
#[derive(Clone, Debug, Serialize)]
pub struct NodePoolSpec {
    /// Nodes.
    pub replicas: i32,
    /// `controller`, `broker`.
    pub roles: Vec<&'static str>,
    /// Volumes.
    pub storage: PoolStorage,
    /// CPU and memory.
    pub resources: ResourceRequirements,
}

/// Volumes of a pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolStorage {
    /// `jbod`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// One each.
    pub volumes: Vec<Volume>,
}

/// One volume of a pool.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its number.
    pub id: i32,
    /// `persistent-claim`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its size.
    pub size: String,
    /// Its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether it goes with the node.
    pub delete_claim: bool,
    /// Where the metadata log is.
    pub kraft_metadata: &'static str,
}

/// `KafkaTopic.spec`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSpec {
    /// Its name in Kafka.
    pub topic_name: String,
    /// Partitions.
    pub partitions: i32,
    /// Copies.
    pub replicas: i32,
    /// Settings.
    pub config: BTreeMap<&'static str, Value>,
}

/// `KafkaUser.spec`.
#[derive(Clone, Debug, Serialize)]
pub struct UserSpec {
    /// How it logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Typed>,
    /// What it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// What a user may do.
#[derive(Clone, Debug, Serialize)]
pub struct Authorization {
    /// `simple`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// One each.
    pub acls: Vec<Acl>,
}

/// One permission.
#[derive(Clone, Debug, Serialize)]
pub struct Acl {
    /// On what.
    pub resource: AclResource,
    /// To do what.
    pub operations: Vec<&'static str>,
}

/// What a permission is about.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AclResource {
    /// `topic`, `group` or `cluster`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `literal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern_type: Option<&'static str>,
}

/// The part of `Kafka.spec` that we read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KafkaSeen {
    /// The brokers.
    pub kafka: BrokersSeen,
}

/// The brokers as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BrokersSeen {
    /// Ways in.
    pub listeners: Vec<ListenerSeen>,
    /// Who may do what; none: permissions are not checked.
    pub authorization: Option<TypeSeen>,
}

/// A way in, as its owner configured it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ListenerSeen {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: i32,
    /// Encrypted?
    pub tls: bool,
    /// Login.
    pub authentication: Option<TypeSeen>,
}

/// Something chosen by its type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TypeSeen {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Status of all four kinds. Failure is `NotReady` with status `True`, without any `Ready`; a topic says `Ready: False`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StrimziStatus {
    /// The generation it is about.
    pub observed_generation: Option<i64>,
    /// What its operator says.
    pub conditions: Vec<Said>,
    /// Addresses of a Kafka.
    pub listeners: Vec<ListenerStatus>,
}

/// Address of a way in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// `host:port[,host:port…]`.
    pub bootstrap_servers: Option<String>,
}

/// The part of a `KafkaTopic.spec` that we read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TopicSeen {
    /// Partitions.
    pub partitions: Option<i64>,
}
