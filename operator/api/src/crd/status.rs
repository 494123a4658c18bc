//! `status`: what is true, as of the last pass.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator last saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PingPipelineStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// PostgresReady, KafkaReady, CacheReady, ServerReady, ProcessorReady, Durable, Exact, Fresh, Ready, Reconciling, Stalled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How much of each component is ready, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<Components>,
    /// Where things are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// What a server said when it was last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

/// `ready/wanted` of each component, `external`, or `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Components {
    /// Postgres instances.
    pub postgres: String,
    /// Kafka: `Ready` or what it is doing.
    pub kafka: String,
    /// Cache pods.
    pub cache: String,
    /// Server pods.
    pub server: String,
    /// Processor pods.
    pub processor: String,
}

/// Where things are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoints {
    /// `host:port` of the servers: gRPC, gRPC-Web and Connect. With roles: of those that take events.
    pub server: String,
    /// `host:port` of the servers that answer, where they have an address of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// `host:port[,host:port…]` of Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<String>,
    /// URL of the cache, without its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Secret with the connection URI of Postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_secret: Option<String>,
}

/// What a server said when it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Figures {
    /// All acknowledged pings.
    pub total: i64,
    /// How old the answer was: `<1s`, whole seconds (`7s`), minutes (`3m`) or hours (`2h`).
    pub lag: String,
    /// Which store answered: `cache` or `database`.
    pub store: String,
    /// How long before the answer an audit last found the cache equal to Postgres: `<1m`, whole minutes (`3m`) or hours (`2h`).
    /// Absent while no audit has looked at what the cache holds, and when the database answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_audit: Option<String>,
    /// When any of these last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
}
