//! `spec.postgres`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKey, rule, workload::Resources};

/// Postgres: a `cluster` that the operator has CloudNativePG run, or an `external` one. Neither given means a cluster with
/// all its defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "!(has(self.cluster) && has(self.external))",
        "give either spec.postgres.cluster or spec.postgres.external, not both",
    ),
    rule(
        "has(self.external) == has(oldSelf.external)",
        "a pipeline cannot move between its own cluster and an external Postgres: the pings would stay behind. Create a second PingPipeline, copy the data, then delete this one",
    ),
]))]
pub struct PostgresSpec {
    /// A CloudNativePG cluster of the pipeline's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<PostgresCluster>,
    /// A Postgres that exists already (version 15 or later).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalPostgres>,
}

/// A CloudNativePG cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PostgresCluster {
    /// Instances, the primary included. Default 3; from 1 to 9.
    #[schemars(range(min = 1, max = 9))]
    pub instances: i32,
    /// Image of the instances, e.g. `<repository>/postgresql:18.4-system-trixie`. Absent: what CloudNativePG runs by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Volume of each instance. Default 10Gi.
    pub storage: Storage,
    /// A volume of its own for the write-ahead log of each instance. Absent: the log shares the data volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_storage: Option<Storage>,
    /// CPU and memory of each instance. Default: requests of 200m and 1Gi, memory limit of 1Gi.
    pub resources: Resources,
    /// Postgres parameters, e.g. `max_connections: "200"`. Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// On how many other instances a ping must be before it is acknowledged.
    pub synchronous: Synchronous,
    /// Backups to an object store. Absent: none are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

impl Default for PostgresCluster {
    fn default() -> Self {
        Self {
            instances: 3,
            image: None,
            storage: Storage::of("10Gi"),
            wal_storage: None,
            resources: Resources::of("200m", "1Gi"),
            parameters: BTreeMap::new(),
            synchronous: Synchronous::default(),
            backup: None,
        }
    }
}

/// A persistent volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Storage {
    /// Size in bytes with a suffix, e.g. `10Gi` (default). It can grow, never shrink.
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = [
        rule("isQuantity(self)", "not a quantity: write e.g. 10Gi"),
        rule(
            "!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0",
            "a volume cannot shrink. Keep the size, or create a second PingPipeline with the smaller one and copy the data",
        ),
    ]))]
    pub size: String,
    /// StorageClass. Absent: the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

impl Storage {
    /// `size` in the default class.
    #[must_use]
    pub fn of(size: &str) -> Self {
        Self { size: size.into(), storage_class: None }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::of("10Gi")
    }
}

/// Synchronous replication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Synchronous {
    /// How many standbys must have a ping on disk before it is acknowledged. Default 1; from 0 (asynchronous) to 8; less
    /// than `instances`.
    #[schemars(range(min = 0, max = 8))]
    pub number: i32,
    /// `Required` (default): without that many standbys writes wait. `Preferred`: writes go on with fewer, and may be lost
    /// with the primary.
    pub data_durability: DataDurability,
}

impl Default for Synchronous {
    fn default() -> Self {
        Self { number: 1, data_durability: DataDurability::Required }
    }
}

/// What happens to writes when standbys are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataDurability {
    /// They wait.
    #[default]
    Required,
    /// They go on.
    Preferred,
}

/// Backups to an S3-compatible object store, through CloudNativePG's Barman Cloud plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// When, as five cron fields: minute, hour, day, month, weekday. Default `0 2 * * *` (02:00 UTC every day).
    #[serde(default = "Backup::default_schedule")]
    #[schemars(length(max = 100), extend("x-kubernetes-validations" = [
        rule("self.trim().split(' ').filter(f, f != '').size() == 5", "five cron fields, without seconds: e.g. '0 2 * * *'"),
    ]))]
    pub schedule: String,
    /// How long backups are kept: a number and `d`, `w` or `m`. Default `30d`.
    #[serde(default = "Backup::default_retention")]
    #[schemars(regex(pattern = r"^[1-9][0-9]*[dwm]$"))]
    pub retention: String,
    /// Where, e.g. `s3://pings-backup/`.
    #[schemars(length(min = 1, max = 1024))]
    pub destination_path: String,
    /// Address of the object store. Absent: that of AWS S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Secret key that holds the access key id.
    pub access_key_id: SecretKey,
    /// Secret key that holds the secret access key.
    pub secret_access_key: SecretKey,
}

impl Backup {
    fn default_schedule() -> String {
        "0 2 * * *".into()
    }

    fn default_retention() -> String {
        "30d".into()
    }
}

/// A Postgres that exists already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPostgres {
    /// Secret key that holds the connection URI: `postgres://user:password@host:port/database`.
    pub uri: SecretKey,
    /// Port to admit in the NetworkPolicy. Default 5432.
    #[serde(default = "ExternalPostgres::default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

impl ExternalPostgres {
    fn default_port() -> i32 {
        5432
    }
}
