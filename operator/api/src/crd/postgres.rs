//! `spec.postgres`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    backup::{Backup, Recovery},
    schema::{SecretKey, rule},
    tls::ConnectionTls,
    workload::Resources,
};

/// Postgres: a `cluster` managed by CloudNativePG, or an `external` one. If neither is set, a cluster with default settings is
/// created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "!(has(self.cluster) && has(self.external))",
        "set either spec.postgres.cluster or spec.postgres.external, not both",
    ),
    rule(
        "has(self.external) == has(oldSelf.external)",
        "a pipeline cannot move between its own cluster and an external Postgres, because its events would stay in the old database. Create a second PingPipeline, copy the data, then delete this one",
    ),
]))]
pub struct PostgresSpec {
    /// A CloudNativePG cluster for this pipeline only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<PostgresCluster>,
    /// An existing Postgres (version 15 or later).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalPostgres>,
}

/// A CloudNativePG cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "!has(self.recovery) || has(oldSelf.recovery)",
        "a backup is restored when a pipeline is created, and this one has data already. Create a second PingPipeline with recovery",
    ),
]))]
pub struct PostgresCluster {
    /// Number of instances, including the primary. Default 3; 1 to 9.
    #[schemars(range(min = 1, max = 9))]
    pub instances: i32,
    /// Container image, for example `<repository>/postgresql:18.4-system-trixie`. Absent: CloudNativePG's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Volume of each instance. Default 10Gi.
    pub storage: Storage,
    /// A separate volume for the write-ahead log of each instance. Absent: the log is stored on the data volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_storage: Option<Storage>,
    /// CPU and memory of each instance. Default: requests of 200m CPU and 1Gi memory, memory limit of 1Gi.
    pub resources: Resources,
    /// Postgres parameters, for example `max_connections: "200"`. Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Synchronous replication: which copies of an event must exist before it is acknowledged.
    pub synchronous: Synchronous,
    /// Backups to an object store. Absent: no backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// The backup that the cluster starts from. Absent: an empty database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Annotations of the ServiceAccount of the instances, which give them an identity in the cloud, for example
    /// `eks.amazonaws.com/role-arn`. Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service_account_annotations: BTreeMap<String, String>,
}

impl Default for PostgresCluster {
    fn default() -> Self {
        Self {
            instances: 3,
            image: None,
            storage: Storage::default(),
            wal_storage: None,
            resources: Resources::of("200m", "1Gi"),
            parameters: BTreeMap::new(),
            synchronous: Synchronous::default(),
            backup: None,
            recovery: None,
            service_account_annotations: BTreeMap::new(),
        }
    }
}

/// A persistent volume. `GIB` is the default of `size`, in GiB. It differs from field to field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage<const GIB: u32 = 10> {
    /// Size in bytes with a suffix, for example `50Gi`. Default: 10Gi for Postgres, 20Gi for Kafka, 5Gi for the cache. It cannot be reduced.
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = [
        rule("isQuantity(self)", "not a quantity; use a value such as 10Gi"),
        rule(
            "!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0",
            "a volume cannot shrink. Keep the size, or create a second PingPipeline with the smaller size and copy the data",
        ),
    ]))]
    #[serde(default = "Storage::<GIB>::default_size")]
    pub size: String,
    /// StorageClass. Absent: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

impl<const GIB: u32> Storage<GIB> {
    /// A volume of `size` in the default StorageClass.
    #[must_use]
    pub fn of(size: &str) -> Self {
        Self { size: size.into(), storage_class: None }
    }

    fn default_size() -> String {
        format!("{GIB}Gi")
    }
}

impl<const GIB: u32> Default for Storage<GIB> {
    fn default() -> Self {
        Self::of(&Self::default_size())
    }
}

/// Synchronous replication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Synchronous {
    /// Number of standbys that must have an event on disk before it is acknowledged. Default 1; 0 (asynchronous) to 8; less than
    /// `instances`.
    #[schemars(range(min = 0, max = 8))]
    pub number: i32,
    /// `Required` (default): writes wait until enough standbys are available. `Preferred`: writes continue with fewer standbys
    /// once Kubernetes reports that their pods are not ready, and can be lost if the primary fails.
    pub data_durability: DataDurability,
}

impl Default for Synchronous {
    fn default() -> Self {
        Self { number: 1, data_durability: DataDurability::Required }
    }
}

/// What happens to writes while standbys are unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataDurability {
    /// Writes wait.
    #[default]
    Required,
    /// Writes continue.
    Preferred,
}

/// An existing Postgres.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPostgres {
    /// Secret key that holds the connection URI: `postgres://user:password@host:port/database`.
    pub uri: SecretKey,
    /// Secret key that holds the URI with which servers answer queries, for a user who may only read (`GRANT pg_read_all_data`).
    /// It names the primary: a standby is refused. Absent: `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_uri: Option<SecretKey>,
    /// Encryption of all connections. It takes precedence over `sslmode` in the URI. Default: verified TLS with a public CA.
    #[serde(default)]
    pub tls: ConnectionTls,
    /// Port that the NetworkPolicy allows. Default 5432.
    #[serde(default = "ExternalPostgres::default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

impl ExternalPostgres {
    fn default_port() -> i32 {
        5432
    }
}
