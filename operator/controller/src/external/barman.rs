//! Backups of CloudNativePG 1.30: `ScheduledBackup`, and `ObjectStore` of its Barman Cloud plugin.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use ping_api::crd::SecretKey;
use serde::{Deserialize, Serialize};

/// `ScheduledBackup.status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ScheduledBackupStatus {
    /// When the last backup was due.
    pub last_schedule_time: Option<Timestamp>,
    /// When the next one is due.
    pub next_schedule_time: Option<Timestamp>,
}

/// `ObjectStore.status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectStoreStatus {
    /// What can be restored, by the name of the cluster.
    pub server_recovery_window: BTreeMap<String, RecoveryWindow>,
}

/// What can be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RecoveryWindow {
    /// The earliest time.
    pub first_recoverability_point: Option<Timestamp>,
    /// When the last successful base backup ended.
    pub last_successful_backup_time: Option<Timestamp>,
    /// When the last base backup failed.
    pub last_failed_backup_time: Option<Timestamp>,
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
    /// How long backups are kept; absent where this cluster only reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<String>,
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
    /// CA certificates of the object store.
    #[serde(rename = "endpointCA", skip_serializing_if = "Option::is_none")]
    pub endpoint_ca: Option<SecretKey>,
    /// Credentials for the object store.
    #[serde(flatten)]
    pub credentials: Credentials,
    /// The write-ahead log.
    pub wal: Compression,
    /// The base backups.
    pub data: Compression,
}

/// Credentials for an object store.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Credentials {
    /// S3.
    S3Credentials(S3Credentials),
    /// Google Cloud Storage.
    GoogleCredentials(GoogleCredentials),
    /// Azure.
    AzureCredentials(AzureCredentials),
}

/// Credentials for S3.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase", untagged)]
pub enum S3Credentials {
    /// A key.
    #[serde(rename_all = "camelCase")]
    Key {
        /// Access key id.
        access_key_id: SecretKey,
        /// Secret access key.
        secret_access_key: SecretKey,
    },
    /// The identity of the pods.
    Identity {
        /// True.
        #[serde(rename = "inheritFromIAMRole")]
        inherit: bool,
    },
}

/// Credentials for Google Cloud Storage.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GoogleCredentials {
    /// The JSON key of a service account.
    ApplicationCredentials(SecretKey),
    /// True: the identity of the pods.
    GkeEnvironment(bool),
}

/// Credentials for Azure.
#[derive(Clone, Debug, Serialize)]
pub enum AzureCredentials {
    /// A connection string.
    #[serde(rename = "connectionString")]
    ConnectionString(SecretKey),
    /// True: the identity of the pods.
    #[serde(rename = "useDefaultAzureCredentials")]
    Identity(bool),
}

/// Compression of files.
#[derive(Clone, Debug, Serialize)]
pub struct Compression {
    /// Format.
    pub compression: &'static str,
}
