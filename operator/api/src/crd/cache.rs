//! `spec.cache`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKey, postgres::Storage, rule, workload::Resources};

/// The cache: a `dragonfly` that the operator has the Dragonfly operator run, or an `external` Redis or Dragonfly. Neither
/// given means a Dragonfly with all its defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "!(has(self.dragonfly) && has(self.external))",
        "give either spec.cache.dragonfly or spec.cache.external, not both",
    ),
]))]
pub struct CacheSpec {
    /// A Dragonfly of the pipeline's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dragonfly: Option<DragonflySpec>,
    /// A cache that exists already (Redis 7.0 or later, or Dragonfly). One pipeline per database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalCache>,
}

/// A Dragonfly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DragonflySpec {
    /// Pods, the primary included. Default 2; from 1 to 5.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: i32,
    /// Image. Absent: what the Dragonfly operator runs by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// CPU and memory of each pod. Default: requests of 400m and 512Mi, memory limit of 512Mi.
    pub resources: Resources,
    /// Snapshots to a volume: a restart then starts from them. Absent: none; the cache is rebuilt from Postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Secret key with the password. Absent: no password; NetworkPolicies keep others out.
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
    /// When, as five cron fields. Default `*/15 * * * *`.
    #[schemars(length(max = 100))]
    pub schedule: String,
    /// Volume of each pod. Default 5Gi.
    pub storage: Storage,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { schedule: "*/15 * * * *".into(), storage: Storage::of("5Gi") }
    }
}

/// A cache that exists already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalCache {
    /// `redis://host:port`, or `rediss://…` for TLS, without a password.
    #[schemars(regex(pattern = r"^rediss?://[^@/]+:[0-9]+(/[0-9]+)?$"))]
    pub url: String,
    /// Secret key with the password. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
}
