//! `spec.cache`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    postgres::Storage,
    schema::{SecretKey, rule},
    tls::ConnectionTls,
    workload::Resources,
};

/// The cache: a `dragonfly` managed by the Dragonfly operator, or an `external` Redis or Dragonfly. If neither is set, a
/// Dragonfly with default settings is created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "!(has(self.dragonfly) && has(self.external))",
        "set either spec.cache.dragonfly or spec.cache.external, not both",
    ),
]))]
pub struct CacheSpec {
    /// A Dragonfly for this pipeline only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dragonfly: Option<DragonflySpec>,
    /// An existing cache (Redis 7.0 or later, or Dragonfly). Each pipeline needs its own database number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalCache>,
}

/// A Dragonfly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DragonflySpec {
    /// Number of pods, including the primary. Default 2; 1 to 5.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: i32,
    /// Container image. Absent: the Dragonfly operator's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// CPU and memory of each pod. Default: requests of 400m CPU and 512Mi memory, memory limit of 512Mi.
    pub resources: Resources,
    /// Snapshots to a volume, which a restarted cache loads. Absent: no snapshots; a restarted cache is rebuilt from Postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Secret key that holds the password of servers and processors. Absent (recommended): the operator generates one password for
    /// each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
}

impl Default for DragonflySpec {
    fn default() -> Self {
        Self { replicas: 2, image: None, resources: Resources::of("400m", "512Mi"), snapshot: None, password: None }
    }
}

/// Snapshots of a Dragonfly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Snapshot {
    /// Schedule as five cron fields. Default `*/15 * * * *`.
    #[schemars(length(max = 100))]
    pub schedule: String,
    /// Volume of each pod. Default 5Gi.
    pub storage: Storage<5>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { schedule: "*/15 * * * *".into(), storage: Storage::default() }
    }
}

/// An existing cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.url.startsWith('rediss:') || (has(self.tls) && self.tls.mode == 'Disable')",
        "the URL starts with redis://, which is not encrypted. Use rediss://, or set tls.mode: Disable to send everything in plaintext, the password included",
    ),
    rule(
        "self.url.startsWith('redis:') || !has(self.tls) || self.tls.mode != 'Disable'",
        "the URL starts with rediss://, but tls.mode is Disable. Use redis://, or remove the mode",
    ),
]))]
pub struct ExternalCache {
    /// URL without a password: `rediss://host:port`, or `redis://host:port` without encryption (`tls.mode: Disable`), with an optional
    /// `/database`.
    #[schemars(regex(pattern = r"^rediss?://[^@/]+:[0-9]+(/[0-9]+)?$"))]
    pub url: String,
    /// User name in the cache's access control list. Absent: the default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,
    /// Secret key that holds the password. Absent: no password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
    /// Encryption of all connections. Default: verified TLS with a public CA.
    #[serde(default)]
    pub tls: ConnectionTls,
}
