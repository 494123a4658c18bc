//! CloudNativePG 1.30: `Cluster`, `ScheduledBackup`, and `ObjectStore` of its Barman Cloud plugin.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde::{Deserialize, Serialize};

use super::Said;

/// `Cluster.spec`, as we write it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Instances, the primary included.
    pub instances: i32,
    /// Image of the instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_name: Option<String>,
    /// The first start.
    pub bootstrap: Bootstrap,
    /// Settings of Postgres.
    pub postgresql: Postgresql,
    /// The data volume.
    pub storage: Storage,
    /// The volume of the write-ahead log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_storage: Option<Storage>,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// Where instances may run.
    pub affinity: Affinity,
    /// A budget that keeps the primary up during drains.
    #[serde(rename = "enablePDB")]
    pub enable_pdb: bool,
    /// Labels for all that CloudNativePG makes.
    pub inherited_metadata: InheritedMetadata,
    /// Plugins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Plugin>,
}

/// The first start.
#[derive(Clone, Debug, Serialize)]
pub struct Bootstrap {
    /// A new database.
    pub initdb: Initdb,
}

/// A new database.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Initdb {
    /// Its name.
    pub database: String,
    /// Its owner.
    pub owner: String,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// Its encoding.
    pub encoding: String,
}

/// Settings of Postgres.
#[derive(Clone, Debug, Serialize)]
pub struct Postgresql {
    /// `postgresql.conf`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Synchronous replication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronous: Option<Synchronous>,
}

/// Synchronous replication.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Synchronous {
    /// `any` or `first`.
    pub method: &'static str,
    /// How many standbys.
    pub number: i32,
    /// `required` or `preferred`.
    pub data_durability: &'static str,
    /// Promote only an instance that surely has every commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_quorum: Option<bool>,
}

/// A volume.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Its size.
    pub size: String,
    /// Its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// Where instances may run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// Keep instances apart.
    pub enable_pod_anti_affinity: bool,
    /// By what.
    pub topology_key: &'static str,
    /// `preferred` or `required`.
    pub pod_anti_affinity_type: &'static str,
}

/// Labels for all that CloudNativePG makes.
#[derive(Clone, Debug, Serialize)]
pub struct InheritedMetadata {
    /// The labels.
    pub labels: BTreeMap<String, String>,
}

/// A plugin.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Its name.
    pub name: &'static str,
    /// Whether it archives the write-ahead log.
    #[serde(rename = "isWALArchiver")]
    pub is_wal_archiver: bool,
    /// Its settings.
    pub parameters: BTreeMap<String, String>,
}

/// The part of `Cluster.spec` that we read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClusterSeen {
    /// Instances asked for.
    pub instances: i64,
    /// The data volume.
    pub storage: StorageSeen,
}

/// A volume as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StorageSeen {
    /// Its size.
    pub size: Option<String>,
}

/// `Cluster.status`. There is no observedGeneration in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Free text; `Cluster in healthy state` when all is well.
    pub phase: Option<String>,
    /// More of it.
    pub phase_reason: Option<String>,
    /// Absent when 0.
    pub ready_instances: i64,
    /// The primary as it is.
    pub current_primary: Option<String>,
    /// The primary as it shall be.
    pub target_primary: Option<String>,
    /// `Ready` repeats the phase; it stays true when every pod is gone.
    pub conditions: Vec<Said>,
}

/// `ScheduledBackup.spec`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBackupSpec {
    /// Which cluster.
    pub cluster: LocalName,
    /// Six cron fields, seconds first.
    pub schedule: String,
    /// How.
    pub method: &'static str,
    /// By which plugin.
    pub plugin_configuration: LocalName,
    /// Who owns the Backups.
    pub backup_owner_reference: &'static str,
}

/// A name in the same namespace.
#[derive(Clone, Debug, Serialize)]
pub struct LocalName {
    /// The name.
    pub name: String,
}

/// `ObjectStore.spec`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreSpec {
    /// How long backups are kept.
    pub retention_policy: String,
    /// Where.
    pub configuration: ObjectStoreConfiguration,
}

/// Where backups go.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreConfiguration {
    /// Bucket and folder.
    pub destination_path: String,
    /// Address.
    #[serde(rename = "endpointURL", skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Login.
    pub s3_credentials: S3Credentials,
    /// The write-ahead log.
    pub wal: Compression,
    /// The base backups.
    pub data: Compression,
}

/// Login at an object store.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Credentials {
    /// Access key id.
    pub access_key_id: ping_api::crd::SecretKey,
    /// Secret access key.
    pub secret_access_key: ping_api::crd::SecretKey,
}

/// How files are packed.
#[derive(Clone, Debug, Serialize)]
pub struct Compression {
    /// The format.
    pub compression: &'static str,
}

/// Pods of the cluster `name`.
#[must_use]
pub fn pods_of(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some([("cnpg.io/cluster".to_owned(), name.to_owned())].into()),
        ..LabelSelector::default()
    }
}
