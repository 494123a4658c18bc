//! CloudNativePG 1.30: `Cluster`, `ScheduledBackup`, and `ObjectStore` of its Barman Cloud plugin.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde::{Deserialize, Serialize};

use super::ExternalCondition;

/// `Cluster.spec`, as we write it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Number of instances, including the primary.
    pub instances: i32,
    /// Image of the instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_name: Option<String>,
    /// How the database is initialized.
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
    /// Scheduling of instances.
    pub affinity: Affinity,
    /// Whether a PodDisruptionBudget protects the primary during node drains.
    #[serde(rename = "enablePDB")]
    pub enable_pdb: bool,
    /// Labels of all objects that CloudNativePG creates.
    pub inherited_metadata: InheritedMetadata,
    /// Plugins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Plugin>,
}

/// How the database is initialized.
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
    /// Number of standbys.
    pub number: i32,
    /// `required` or `preferred`.
    pub data_durability: &'static str,
    /// Promote an instance only if it is certain to have every commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_quorum: Option<bool>,
}

/// A volume.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Its size.
    pub size: String,
    /// Its StorageClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// Scheduling of instances.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// Whether instances avoid the same node.
    pub enable_pod_anti_affinity: bool,
    /// Topology key of the anti-affinity.
    pub topology_key: &'static str,
    /// `preferred` or `required`.
    pub pod_anti_affinity_type: &'static str,
}

/// Labels of all objects that CloudNativePG creates.
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
pub struct ObservedCluster {
    /// Desired number of instances.
    pub instances: i64,
    /// The data volume.
    pub storage: ObservedStorage,
}

/// An observed volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObservedStorage {
    /// Its size.
    pub size: Option<String>,
}

/// `Cluster.status`. There is no observedGeneration in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Free text; `Cluster in healthy state` if the cluster is healthy.
    pub phase: Option<String>,
    /// Details of the phase.
    pub phase_reason: Option<String>,
    /// Number of ready instances; absent if 0.
    pub ready_instances: i64,
    /// Current primary.
    pub current_primary: Option<String>,
    /// Desired primary.
    pub target_primary: Option<String>,
    /// Conditions. `Ready` repeats the phase and stays `True` even if all pods are gone.
    pub conditions: Vec<ExternalCondition>,
}

/// `ScheduledBackup.spec`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBackupSpec {
    /// The cluster.
    pub cluster: LocalName,
    /// Schedule as six cron fields, starting with seconds.
    pub schedule: String,
    /// Backup method.
    pub method: &'static str,
    /// Plugin that makes the backup.
    pub plugin_configuration: LocalName,
    /// Owner of the Backup objects.
    pub backup_owner_reference: &'static str,
}

/// A reference to an object in the same namespace.
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
    /// Destination and credentials.
    pub configuration: ObjectStoreConfiguration,
}

/// Destination of backups.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreConfiguration {
    /// Bucket and folder.
    pub destination_path: String,
    /// URL of the object store.
    #[serde(rename = "endpointURL", skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Credentials for the object store.
    pub s3_credentials: S3Credentials,
    /// The write-ahead log.
    pub wal: Compression,
    /// The base backups.
    pub data: Compression,
}

/// Credentials for an object store.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Credentials {
    /// Access key id.
    pub access_key_id: ping_api::crd::SecretKey,
    /// Secret access key.
    pub secret_access_key: ping_api::crd::SecretKey,
}

/// Compression of files.
#[derive(Clone, Debug, Serialize)]
pub struct Compression {
    /// Format.
    pub compression: &'static str,
}

/// Selects the pods of the cluster `name`.
#[must_use]
pub fn pods_of(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some([("cnpg.io/cluster".to_owned(), name.to_owned())].into()),
        ..LabelSelector::default()
    }
}
