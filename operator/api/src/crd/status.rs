//! `status`: the state of the pipeline as of the last reconcile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Observed state of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PingPipelineStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: PostgresReady, KafkaReady, CacheReady, ServerReady, ProcessorReady, Durable, BackedUp, Encrypted, Authenticated, Exact,
    /// Fresh, StorageLow, Ready, Reconciling, Stalled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Summary of each component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<Components>,
    /// How callers connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Addresses of the components.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The data volume of each Postgres instance. Absent for an external Postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_volume: Option<PostgresVolume>,
    /// When the cluster of Postgres was created from `spec.postgres.cluster.recovery`. Absent if Postgres was started empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Time>,
    /// Count and freshness, as a server last reported them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
}

/// Summary of each component: `ready/desired`, `external`, or `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Components {
    /// Postgres instances.
    pub postgres: String,
    /// Kafka: `Ready`, or the reason why it is not.
    pub kafka: String,
    /// Cache pods.
    pub cache: String,
    /// Server pods.
    pub server: String,
    /// Processor pods.
    pub processor: String,
}

/// The data volume of each Postgres instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PostgresVolume {
    /// Its capacity in bytes: that of the primary's PersistentVolumeClaim, or of the spec until that is known.
    pub bytes: i64,
    /// Whether it also holds the write-ahead log.
    pub holds_wal: bool,
}

/// How callers connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Access {
    /// URL of the servers: that of `endpoints.server`, with its scheme.
    pub url: String,
    /// Name that the servers' certificate covers. Absent: plaintext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Secret whose key `ca.crt` has the CA of the servers' certificate. Absent: a public CA, or plaintext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// Secret whose key `token` has the first token. Absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<String>,
    /// Command that prints how to connect.
    pub hint: String,
}

/// Addresses of the components.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoints {
    /// `host:port` of the servers (gRPC, gRPC-Web and Connect). With separate roles: of the ingest servers.
    pub server: String,
    /// `host:port` of the query servers, if they are separate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Kafka bootstrap servers, as `host:port[,host:port…]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<String>,
    /// URL of the cache, without its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Secret that holds the Postgres connection URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_secret: Option<String>,
}

/// [`Stats::views_audit`] while the counts per source are known to differ from the stored events.
pub const VIEWS_DIFFER: &str = "differ";

/// Count and freshness, as a server last reported them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Stats {
    /// Number of acknowledged events.
    pub total: i64,
    /// Age of the count: `<1s`, or whole seconds (`7s`), minutes (`3m`) or hours (`2h`).
    pub lag: String,
    /// Store that answered: `cache` or `database`.
    pub store: String,
    /// Time since an audit last found the cache equal to Postgres: `<1m`, or whole minutes (`3m`) or hours (`2h`). Absent if the
    /// cache has not been audited yet, or if the database answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_audit: Option<String>,
    /// Time since an audit last found the counts per source equal to the stored events, as in `lastAudit`; `differ` while they are known to
    /// differ. Absent before the first audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub views_audit: Option<String>,
    /// Share of the volume of Postgres that is in use, and the days left at the present growth: `74%, 9d left`. Absent until a server has
    /// measured it, and for an external Postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// When Postgres or the topic was last found to have gone back, as `Exact` explains. Absent if that was more than a week ago, or never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation_changed_at: Option<Time>,
    /// When any of these values last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
}
