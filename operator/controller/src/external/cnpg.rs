//! CloudNativePG 1.30: `Cluster`. Its backups are in [`barman`](super::barman).

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
    /// The ServiceAccount of the instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_template: Option<ServiceAccountTemplate>,
    /// Plugins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Plugin>,
    /// Clusters that `bootstrap` refers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_clusters: Vec<ExternalCluster>,
}

/// The ServiceAccount of the instances.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceAccountTemplate {
    /// Its metadata.
    pub metadata: Annotations,
}

/// Annotations of an object.
#[derive(Clone, Debug, Serialize)]
pub struct Annotations {
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How the database is initialized.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bootstrap {
    /// A new database.
    Initdb(Initdb),
    /// A backup.
    Recovery(Recovery),
}

/// A database that is restored from a backup.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Name of the external cluster with the backups and the write-ahead log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    /// Its name.
    pub database: String,
    /// Its owner.
    pub owner: String,
    /// Where to stop; absent: at the end of the write-ahead log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_target: Option<RecoveryTarget>,
    /// Snapshots to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshots: Option<VolumeSnapshots>,
}

/// Where a recovery stops.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryTarget {
    /// At this time, in RFC 3339.
    pub target_time: String,
}

/// Snapshots of the volumes of an instance.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshots {
    /// The data volume.
    pub storage: VolumeSnapshot,
    /// The volume of the write-ahead log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_storage: Option<VolumeSnapshot>,
}

/// A reference to a VolumeSnapshot.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshot {
    /// `snapshot.storage.k8s.io`.
    pub api_group: &'static str,
    /// `VolumeSnapshot`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// A cluster that another one is restored from.
#[derive(Clone, Debug, Serialize)]
pub struct ExternalCluster {
    /// Its name within the spec.
    pub name: &'static str,
    /// The plugin that reads its backups.
    pub plugin: Plugin,
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
    #[serde(rename = "isWALArchiver", skip_serializing_if = "Option::is_none")]
    pub is_wal_archiver: Option<bool>,
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
    /// How the database was initialized.
    pub bootstrap: ObservedBootstrap,
}

/// How the database was initialized.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObservedBootstrap {
    /// Set if it was restored from a backup.
    pub recovery: Option<serde_json::Value>,
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

/// Selects the pods of the cluster `name`.
#[must_use]
pub fn pods_of(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some([("cnpg.io/cluster".to_owned(), name.to_owned())].into()),
        ..LabelSelector::default()
    }
}
